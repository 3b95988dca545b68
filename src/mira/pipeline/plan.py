"""The dry run: what each stage would do, and what it would cost."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mira import corpus
from mira.cascade.served import is_cascade
from mira.cli.tables import wide_console
from mira.config.settings import Config, EndpointSettings
from mira.distillation.bundle import read_bundle
from mira.distillation.sft.student import served_settings
from mira.errors import ConfigError
from mira.grouping.groups import load_groups
from mira.pipeline.registry import needed_stages
from mira.pipeline.runner import check_teacher, run_stages, stage_states
from mira.pipeline.unanswered import count_unanswered
from mira.pipeline.validate import check_bundles, method_endpoint
from mira.progress import Log
from mira.run_folder.paths import RunFolder

__all__ = ["PlannedStage", "missing_teacher", "plan", "print_plan"]

Endpoints = dict[str, EndpointSettings | None]

# Tokens of prompts and replies, for estimates before there is anything to measure: 15 slots, 12 of them with three
# references, rationales of one sentence.
SYSTEM_TOKENS = 2_800
TEMPLATE_TOKENS = 350
REPLY_TOKENS = 600
FREE_REPLY_TOKENS = 900


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """What one stage would do.

    Attributes:
        name: The stage.
        state: "up to date", or why it would run.
        records: Records that it goes through.
        calls: LLM calls at most. Those of discover and label that the journal has a reply for are left out once the
            stages before are up to date; so are all replies that it holds when the stage runs.
        tokens_in: Prompt tokens of those calls.
        tokens_out: Reply tokens of those calls, estimated.
        cost: In the currency of the endpoint's prices; None where no price is set and there are calls.
        answered: Calls that are left out because their replies are there already.
        in_run: Whether it is part of a run.
    """

    name: str
    state: str
    records: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0
    answered: int = 0
    in_run: bool = True


def plan(config: Config, log: Log) -> list[PlannedStage]:
    """Read the sources once (the index is kept) and tell what a run would do, and `mira cascade` after it.

    Raises:
        MiraError: A source cannot be read, or a scorer bundle is not in order; see `check_bundles`.
    """
    for _ in check_bundles(config):
        pass
    run_stages(config, ["index"], log)
    totals = corpus.totals(config, RunFolder(config.run))
    valid = {source: counts["valid"] for source, counts in totals.items()}
    mean = {source: counts["tokens"] / max(counts["valid"], 1) for source, counts in totals.items()}
    planned = []
    for state in stage_states(config):
        name = state.stage.name
        text = "; ".join(state.reasons) or "up to date"
        records, calls, endpoints, reply = _work(name, config, valid)
        system = (0 if name in ("discover", "select") else SYSTEM_TOKENS) + TEMPLATE_TOKENS
        asked = {source: n for source, n in calls.items() if state.reasons and endpoints.get(source)}
        told = None
        if asked and name in ("discover", "label") and not any(r.startswith("waits for") for r in state.reasons):
            told = count_unanswered(config, name, log)
        spent = _spent(told.left if told else asked, endpoints, mean, system, reply)
        planned.append(PlannedStage(name, text, sum(records.values()), *spent, told.answered if told else 0))
    if is_cascade(config):
        planned.append(_cascade(config, valid, mean))
    return planned


def missing_teacher(config: Config) -> str:
    """Return what `check_teacher` has to say where a run needs a teacher and has none; else ""."""
    try:
        if needed_stages(config) & {"discover", "label"}:
            check_teacher(config)
    except ConfigError as error:
        return str(error)
    return ""


def _spent(
    asked: dict[str, int], endpoints: Endpoints, mean: dict[str, float], system: int, reply: int
) -> tuple[int, int, int, float | None]:
    """Return calls, prompt tokens, reply tokens and cost; None for the cost where an endpoint has no price.

    Args:
        asked: Source -> calls.
        endpoints: Source -> the endpoint that is asked.
        mean: Source -> mean tokens of a record.
        system: Tokens of a prompt besides the record.
        reply: Tokens of a reply.
    """
    tokens_in, cost, priced = 0.0, 0.0, True
    for source, n in asked.items():
        endpoint = endpoints[source]
        assert endpoint is not None, "only sources with an endpoint are asked about"
        tokens = n * (min(mean[source], endpoint.max_model_len) + system)
        tokens_in += tokens
        cost += (tokens * endpoint.price_in + n * reply * endpoint.price_out) / 1e6
        priced &= bool(endpoint.price_in or endpoint.price_out)
    calls = sum(asked.values())
    return calls, round(tokens_in), calls * reply, cost if priced else None


def _cascade(config: Config, valid: dict[str, int], mean: dict[str, float]) -> PlannedStage:
    """Plan the served part of a cascade: a share of each source's records near the threshold, and the audit slice."""
    settings = config.distill.cascade
    endpoints = _by_group(config, valid, config.distill.endpoint_of)
    for source, group in _group_of(config).items():
        if group in settings.bundles and (endpoint := endpoints.get(source)):
            endpoints[source] = served_settings(Path(settings.bundles[group]), endpoint)
    near = 1.0 if settings.errors is not None else settings.share
    asked = {s: ceil(n * (near + settings.audit * (1 - near))) for s, n in valid.items()}
    at_most = "at most: how many are near is known after scoring; " if settings.errors is not None else ""
    spent = _spent(asked, endpoints, mean, SYSTEM_TOKENS + TEMPLATE_TOKENS, REPLY_TOKENS)
    return PlannedStage(
        "cascade", f"{at_most}not part of a run: mira cascade", sum(valid.values()), *spent, in_run=False
    )


def print_plan(planned: list[PlannedStage], console: Console | None = None) -> None:
    """Print the plan as a table."""
    table = Table(title="What a run would do", title_justify="left")
    for column in ("stage", "state"):
        table.add_column(column)
    for column in ("records", "LLM calls", "tokens in", "tokens out", "cost"):
        table.add_column(column, justify="right")
    for stage in planned:
        paid = f"; {stage.answered:,} replies are there already" if stage.answered else ""
        table.add_row(stage.name, stage.state + paid, *_cells(stage))
    table.add_section()
    table.add_row("all", "of a run", *_cells(_total([stage for stage in planned if stage.in_run])))
    (console or wide_console()).print(table)


def _cells(stage: PlannedStage) -> list[str]:
    numbers = [f"{n:,}" if n else "" for n in (stage.records, stage.calls, stage.tokens_in, stage.tokens_out)]
    return [*numbers, "no price set" if stage.cost is None else f"{stage.cost:,.2f}" if stage.calls else ""]


def _total(planned: list[PlannedStage]) -> PlannedStage:
    costs = [stage.cost for stage in planned if stage.calls]
    cost = None if None in costs else sum(c for c in costs if c is not None)
    calls, tokens_in, tokens_out = (
        sum(getattr(stage, name) for stage in planned) for name in ("calls", "tokens_in", "tokens_out")
    )
    return PlannedStage("all", "", 0, calls, tokens_in, tokens_out, cost)


Counts = dict[str, int]


def _work(name: str, config: Config, valid: Counts) -> tuple[Counts, Counts, Endpoints, int]:
    """Return a stage's records and calls a source, the endpoint of each source's calls, and the tokens of one reply."""
    teacher = config.teacher
    if name == "index":
        return valid, {}, {}, 0
    if name == "group":
        return {s: min(n, config.group.sample) for s, n in valid.items()}, {}, {}, 0
    if name == "discover":
        given = {s for group in config.discover.rubrics for s in config.group.given.get(group, ())}
        records = {s: min(n, config.discover.sample) for s, n in valid.items() if s not in given}
        asked = None if teacher.free_judgments else teacher.endpoint
        return records, records, dict.fromkeys(valid, asked), FREE_REPLY_TOKENS
    if name == "label":
        if teacher.replies:
            return {}, {}, {}, 0
        samples = teacher.endpoint.samples if teacher.endpoint else 1
        records = {s: min(n, config.label.sample) for s, n in valid.items()}
        calls = {s: (n + round(n * config.label.replicates)) * samples for s, n in records.items()}
        return records, calls, dict.fromkeys(valid, teacher.endpoint), REPLY_TOKENS
    if name == "score":
        return valid, valid, _by_group(config, valid, lambda group: _served(config, group)), REPLY_TOKENS
    if name == "select":
        endpoint = method_endpoint(config)
        return valid, valid, dict.fromkeys(valid, endpoint), endpoint.max_tokens if endpoint else 0
    return {}, {}, {}, 0


def _group_of(config: Config) -> dict[str, str]:
    """Return source -> group, as far as groups are known."""
    run = RunFolder(config.run)
    given = {source: group for group, sources in config.group.given.items() for source in sources}
    found = {s: g.name for g in load_groups(run) for s in g.sources} if run.groups.is_file() else {}
    return found | given


def _by_group(
    config: Config, valid: dict[str, int], endpoint_of: Callable[[str], EndpointSettings | None]
) -> Endpoints:
    """Return source -> its group's endpoint; before groups are known, the first one that there is."""
    group_of = _group_of(config)
    first = next(iter(config.distill.endpoints), "")
    return {source: endpoint_of(group_of.get(source, first)) for source in valid}


def _served(config: Config, group: str) -> EndpointSettings | None:
    """Return the endpoint that scores a group's records; None where an encoder does."""
    distill = config.distill
    if distill.student == "encoder":
        return None
    own = distill.bundles.get(group)
    folders = [own] if own else list(distill.bundles.values())
    if distill.student == "bundle" and all(read_bundle(Path(f))["kind"] == "encoder" for f in folders):
        return None
    return distill.endpoint_of(group)
