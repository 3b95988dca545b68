"""What a stage asked of endpoints and spent, as the manifest says it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Spent", "read_spent", "total"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What the last run of a stage asked for one group, and what its replies cost.

    Attributes:
        group: The group; "" where a stage has one stream of requests.
        models: Models, in the server's words.
        sent: Requests sent, with those sent again.
        from_journal: Replies that an earlier command had paid for.
        retries: Why requests were sent again -> how often.
        failures: Reason -> requests without a reply.
        tokens_in: Prompt tokens paid for in that run.
        tokens_out: Reply tokens paid for in it.
        cost: What they cost.
        known_in: Prompt tokens of the replies from the journal.
        known_out: Their reply tokens.
        known_cost: What they would cost at the prices of the settings.
        replies: Replies in all.
    """

    group: str = ""
    models: tuple[str, ...] = ()
    replies: int = 0
    sent: int = 0
    from_journal: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    known_in: int = 0
    known_out: int = 0
    known_cost: float = 0.0


def read_spent(summary: Any) -> list[Spent]:
    """Return one entry per stream of requests that a stage's summary tells of; none for a stage that asked nobody."""
    return list(_found(summary, ""))


def _found(value: Any, group: str) -> Iterator[Spent]:
    if not isinstance(value, Mapping):
        return
    if "tokens_in" in value and "from_journal" in value:
        yield _spent(value, group)
        return
    for name, inner in value.items():
        yield from _found(inner, group if name in ("groups", "requests") else str(name))


def _spent(value: Mapping[str, Any], group: str) -> Spent:
    return Spent(
        group=group,
        models=tuple(value.get("models", {})),
        replies=int(value.get("replies", 0)),
        sent=int(value.get("requests", 0)),
        from_journal=int(value["from_journal"]),
        retries=dict(value.get("retries", {})),
        failures=_sum(value.get("failures", {}).values()),
        tokens_in=int(value["tokens_in"]),
        tokens_out=int(value.get("tokens_out", 0)),
        cost=float(value.get("cost", 0.0)),
        known_in=int(value.get("known_in", 0)),
        known_out=int(value.get("known_out", 0)),
        known_cost=float(value.get("known_cost", 0.0)),
    )


def total(entries: list[Spent]) -> Spent:
    """Return the sum of several entries."""
    names = ("replies", "sent", "from_journal", "tokens_in", "tokens_out", "known_in", "known_out")
    return Spent(
        group="all",
        models=tuple(dict.fromkeys(model for entry in entries for model in entry.models)),
        retries=_sum([entry.retries for entry in entries]),
        failures=_sum([entry.failures for entry in entries]),
        cost=sum(entry.cost for entry in entries),
        known_cost=sum(entry.known_cost for entry in entries),
        **{name: sum(getattr(entry, name) for entry in entries) for name in names},
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in counts:
        found.update(each)
    return dict(found)
