"""The dry run: what each stage would do, and what it would cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from pathlib import Path

from mira import corpus
from mira.config.settings import Config, DistillSettings
from mira.distillation.bundle import read_bundle
from mira.distillation.sft.student import served_settings
from mira.errors import ConfigError
from mira.grouping.groups import known_groups
from mira.pipeline.preflight import check_teacher
from mira.pipeline.registry import needed_stages
from mira.pipeline.runner import check_edited, run_stages, stage_states
from mira.pipeline.unanswered import SourceCalls, count_unanswered
from mira.pipeline.validate import check_bundles
from mira.progress import Log
from mira.rescoring.served import is_cascade
from mira.run_folder.paths import RunFolder
from mira.stage import REPLY_TOKENS, SYSTEM_TOKENS, TEMPLATE_TOKENS, Work

__all__ = ["PlannedStage", "missing_teacher", "plan"]


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """What one stage would do.

    Attributes:
        name: The stage.
        state: "up to date", or why it would run.
        records: Records that it goes through.
        calls: LLM calls. Those of discover and label that the journal has a reply for are left out.
        tokens_in: Prompt tokens of those calls.
        tokens_out: Reply tokens of those calls, estimated.
        cost: In the currency of the endpoint's prices; None where no price is set and there are calls.
        answered: Calls that are left out because their replies are there already.
        in_run: Whether it is part of a run.
        at_most: Whether it may be fewer calls: some replies may be in the journal already.
        sources: Of label, source -> its calls, and why it gets new labels.
        notes: What else it will take, such as memory and time of training.
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
    at_most: bool = False
    sources: Mapping[str, SourceCalls] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan(config: Config, log: Log) -> list[PlannedStage]:
    """Read the sources once (the index is kept) and tell what a run would do, and `mira cascade` after it.

    Raises:
        MiraError: A source cannot be read, or a scorer bundle is not in order; see `check_bundles`.
    """
    for _ in check_bundles(config):
        pass
    run_stages(config, ["index"], log)
    run = RunFolder(config.run)
    totals = corpus.totals(config.corpus, run)
    valid = {source: counts["valid"] for source, counts in totals.items()}
    mean = {source: counts["tokens"] / max(counts["valid"], 1) for source, counts in totals.items()}
    planned = []
    states = stage_states(config)
    work_of = {state.stage.name: state.stage.work(config, run, valid) for state in states}
    for state in states:
        check_edited(state.stage, config, run)
    label = work_of.get("label", Work())
    unanswered = count_unanswered(config, states, label.calls, log)
    replies = any(run.journal.glob("*.jsonl.zst"))
    for state in states:
        name, work = state.stage.name, work_of[state.stage.name]
        text = "; ".join(state.reasons) or "up to date"
        asked = {source: n for source, n in work.calls.items() if state.reasons and work.endpoints.get(source)}
        at_most = replies and bool(asked)
        sources: dict[str, SourceCalls] = {}
        answered = 0
        if counted := unanswered.get(name):
            asked, answered = counted.left, counted.answered
            sources, at_most = counted.sources, any(c.at_most for c in counted.sources.values())
        records = sum(work.records.values())
        if counted and name == "discover":
            records = answered + sum(asked.values())
        spent = _spent(asked, work, mean)
        planned.append(
            PlannedStage(
                name, text, records, *spent, answered, at_most=at_most,
                sources=sources if name == "label" else {}, notes=work.notes if state.reasons else (),
            )
        )  # fmt: skip
    if is_cascade(config.distill, config.select):
        planned.append(_cascade(config.distill, known_groups(config.group, run), valid, mean))
    return planned


def missing_teacher(config: Config) -> str:
    """Return what `check_teacher` has to say where a run needs a teacher and has none; else ""."""
    try:
        if needed_stages(config) & {"discover", "label"}:
            check_teacher(config)
    except ConfigError as error:
        return str(error)
    return ""


def _spent(asked: Mapping[str, int], work: Work, mean: Mapping[str, float]) -> tuple[int, int, int, float | None]:
    """Return calls, prompt tokens, reply tokens and cost; None for the cost where an endpoint has no price.

    Args:
        asked: Source -> calls.
        work: The endpoints that are asked, and the tokens of a prompt and of a reply.
        mean: Source -> mean tokens of a record.
    """
    tokens_in, cost, priced = 0.0, 0.0, True
    for source, n in asked.items():
        endpoint = work.endpoints[source]
        assert endpoint is not None, "only sources with an endpoint are asked about"
        tokens = n * (min(mean[source], endpoint.max_model_len, work.record_tokens or inf) + work.prompt_tokens)
        tokens_in += tokens
        cost += (tokens * endpoint.price_in + n * work.reply_tokens * endpoint.price_out) / 1e6
        priced &= bool(endpoint.price_in or endpoint.price_out)
    calls = sum(asked.values())
    return calls, round(tokens_in), calls * work.reply_tokens, cost if priced else None


def _cascade(
    distill: DistillSettings, groups: Mapping[str, str], valid: dict[str, int], mean: dict[str, float]
) -> PlannedStage:
    """Plan the served part of a cascade: a share of each source's records near the threshold, and the audit slice."""
    settings = distill.cascade
    first = next(iter(distill.endpoints), "")
    endpoints = {source: distill.endpoint_of(groups.get(source, first)) for source in valid}
    for source, group in groups.items():
        is_head = group in settings.bundles and read_bundle(Path(settings.bundles[group]))["kind"] == "head"
        if group in settings.bundles and not is_head and (endpoint := endpoints.get(source)):
            endpoints[source] = served_settings(Path(settings.bundles[group]), endpoint)
    near = 1.0 if settings.within_errors is not None else settings.share
    asked = {s: ceil(n * (near + settings.audit * (1 - near))) for s, n in valid.items()}
    at_most = "at most: how many are near is known after scoring; " if settings.within_errors is not None else ""
    work = Work(valid, asked, endpoints, SYSTEM_TOKENS + TEMPLATE_TOKENS, REPLY_TOKENS)
    spent = _spent(asked, work, mean)
    return PlannedStage(
        "cascade", f"{at_most}not part of a run: mira cascade", sum(valid.values()), *spent, in_run=False
    )
