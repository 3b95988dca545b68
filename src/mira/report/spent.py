"""What judging has cost: calls, tokens and cost of every stage and model, from the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mira.config.endpoints import EndpointSettings
from mira.config.settings import DistillSettings, TeacherSettings
from mira.llm.spent import Spent, read_spent, total

__all__ = ["SpentRow", "spent_rows"]


@dataclass(frozen=True, slots=True)
class SpentRow:
    """One stage and the models that it asked.

    Attributes:
        stage: The stage; "all" for the sum.
        models: Their names, in the servers' words.
        calls: Replies that the stage's output rests on, whenever they were paid for.
        retries: Requests that its last run sent again.
        failed: Requests that its last run got no reply to.
        tokens_in: Prompt tokens of all these replies.
        tokens_out: Their reply tokens.
        cost: What they cost at the prices of the settings; None where no price is set.
    """

    stage: str
    models: str
    calls: int
    retries: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost: float | None


def spent_rows(manifest: Mapping[str, Any], teacher: TeacherSettings, distill: DistillSettings) -> tuple[SpentRow, ...]:
    """Return one row per stage and models, and their sum if there are several; none where no endpoint was asked."""
    rows: list[SpentRow] = []
    for stage, entry in manifest.get("stages", {}).items():
        streams: dict[tuple[str, ...], list[Spent]] = {}
        for spent in read_spent(entry.get("summary")):
            if spent.replies or spent.sent:
                streams.setdefault(spent.models, []).append(spent)
        priced = any(e.price_in or e.price_out for e in _endpoints(stage, teacher, distill))
        rows += [_row(stage, ", ".join(models), total(found), priced) for models, found in streams.items()]
    if len(rows) > 1:
        costs = [row.cost for row in rows if row.cost is not None]
        sums = {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}
        rows.append(SpentRow("all", "", **sums, cost=sum(costs) if costs else None))
    return tuple(rows)


_SUMMED = ("calls", "retries", "failed", "tokens_in", "tokens_out")


def _row(stage: str, models: str, spent: Spent, priced: bool) -> SpentRow:
    return SpentRow(
        stage=stage,
        models=models,
        calls=spent.replies,
        retries=sum(spent.retries.values()),
        failed=sum(spent.failures.values()),
        tokens_in=spent.tokens_in + spent.known_in,
        tokens_out=spent.tokens_out + spent.known_out,
        cost=spent.cost + spent.known_cost if priced or spent.cost else None,
    )


def _endpoints(stage: str, teacher: TeacherSettings, distill: DistillSettings) -> list[EndpointSettings]:
    """Return the endpoints that a stage may have asked."""
    if stage in ("discover", "label"):
        return [teacher.endpoint] if teacher.endpoint else []
    named = [distill.endpoint, *distill.endpoints.values()]
    return [endpoint for endpoint in named if endpoint]
