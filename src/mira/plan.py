"""The dry run: what each stage would do, and what it would cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mira import corpus
from mira.config import Config, EndpointSettings
from mira.discovery.grouping import load_groups
from mira.distillation.bundle import read_bundle
from mira.errors import ConfigError
from mira.judging.check import check_endpoint
from mira.pipeline import check_teacher, run_stages, stage_states
from mira.progress import Log
from mira.run import RunFolder
from mira.stages import needed_stages
from mira.summary import wide_console

__all__ = ["PlannedStage", "plan", "print_plan", "validate"]

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
        calls: LLM calls at most; replies in the journal are not paid twice and make it fewer.
        tokens_in: Prompt tokens of those calls.
        tokens_out: Reply tokens of those calls, estimated.
        cost: In the currency of the endpoint's prices; None where no price is set and there are calls.
    """

    name: str
    state: str
    records: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0


def validate(config: Config) -> Iterator[str]:
    """Check files, fields and endpoints; yield one line for each thing that is in order.

    Raises:
        MiraError: The first thing that is wrong.
    """
    for source, found in corpus.shards(config).items():
        record = corpus.peek(config, source)
        yield f"source {source}: {len(found)} shard(s), first record {record.id!r} has {len(record.text):,} characters"
    if needed_stages(config) & {"discover", "label"}:
        check_teacher(config)
    _check_rubrics(config)
    endpoints = {
        "teacher": config.teacher.endpoint,
        "student": config.distill.endpoint,
        config.select.method: _method_endpoint(config),
    }
    for name, endpoint in endpoints.items():
        if endpoint is not None:
            for line in check_endpoint(endpoint):
                yield f"{name}: {line}"
    if not config.teacher.endpoint and config.teacher.replies:
        yield f"teacher: recorded replies in {config.teacher.replies}"
    yield "all in order"


def _check_rubrics(config: Config) -> None:
    run = RunFolder(config.run)
    known = {group.name for group in load_groups(run)} if run.groups.is_file() else set()
    strange = [name for name in config.discover.rubrics if known and name not in known | set(config.group.given)]
    if strange:
        raise ConfigError(
            f"discover.rubrics: there is no group '{strange[0]}'; groups are {', '.join(sorted(known))}",
            "Name one of these, or fix the groups with group.given.",
        )


def plan(config: Config, log: Log) -> list[PlannedStage]:
    """Read the sources once (the index is kept) and tell what a run would do."""
    run_stages(config, ["index"], log)
    totals = corpus.totals(config, RunFolder(config.run))
    valid = {source: counts["valid"] for source, counts in totals.items()}
    mean = {source: counts["tokens"] / max(counts["valid"], 1) for source, counts in totals.items()}
    planned = []
    for state in stage_states(config):
        name = state.stage.name
        text = "; ".join(state.reasons) or "up to date"
        records, endpoint, reply = _work(name, config, valid)
        if not state.reasons or endpoint is None:
            planned.append(PlannedStage(name, text, sum(records.values())))
            continue
        calls = sum(records.values())
        system = (0 if name in ("discover", "select") else SYSTEM_TOKENS) + TEMPLATE_TOKENS
        tokens_in = round(sum(n * (min(mean[s], endpoint.max_model_len) + system) for s, n in records.items()))
        priced = bool(endpoint.price_in or endpoint.price_out)
        cost = (tokens_in * endpoint.price_in + calls * reply * endpoint.price_out) / 1e6 if priced else None
        planned.append(PlannedStage(name, text, calls, calls, tokens_in, calls * reply, cost))
    return planned


def print_plan(planned: list[PlannedStage], console: Console | None = None) -> None:
    """Print the plan as a table."""
    table = Table(title="What a run would do", title_justify="left")
    for column in ("stage", "state"):
        table.add_column(column)
    for column in ("records", "LLM calls", "tokens in", "tokens out", "cost"):
        table.add_column(column, justify="right")
    for stage in planned:
        numbers = [f"{n:,}" if n else "" for n in (stage.records, stage.calls, stage.tokens_in, stage.tokens_out)]
        cost = "no price set" if stage.cost is None else f"{stage.cost:,.2f}" if stage.calls else ""
        table.add_row(stage.name, stage.state, *numbers, cost)
    (console or wide_console()).print(table)


def _work(name: str, config: Config, valid: dict[str, int]) -> tuple[dict[str, int], EndpointSettings | None, int]:
    """Return a stage's records a source, the endpoint that it calls, and the tokens of one reply."""
    teacher = config.teacher
    if name == "index":
        return valid, None, 0
    if name == "group":
        return {s: min(n, config.group.sample) for s, n in valid.items()}, None, 0
    if name == "discover":
        given = {s for group in config.discover.rubrics for s in config.group.given.get(group, ())}
        records = {s: min(n, config.discover.sample) for s, n in valid.items() if s not in given}
        return (records, None, 0) if teacher.free_judgments else (records, teacher.endpoint, FREE_REPLY_TOKENS)
    if name == "label":
        if teacher.replies:
            return {}, None, 0
        twice = 1 + config.label.replicates
        records = {s: ceil(min(n, config.label.sample) * twice) for s, n in valid.items()}
        return records, teacher.endpoint, REPLY_TOKENS
    if name == "score":
        return valid, _served(config), REPLY_TOKENS
    if name == "select":
        endpoint = _method_endpoint(config)
        return valid, endpoint, endpoint.max_tokens if endpoint else 0
    return {}, None, 0


def _method_endpoint(config: Config) -> EndpointSettings | None:
    """Return the endpoint that the configured selection method asks."""
    select = config.select
    if select.method == "ppl":
        return select.ppl.endpoint
    return select.dataman.endpoint if select.method == "dataman" and not select.dataman.scores else None


def _served(config: Config) -> EndpointSettings | None:
    """Return the endpoint that scores everything; None where encoders do."""
    distill = config.distill
    if distill.student == "encoder":
        return None
    if distill.student == "bundle" and all(read_bundle(Path(f))["kind"] == "encoder" for f in distill.bundles.values()):
        return None
    return distill.endpoint or next(iter(distill.endpoints.values()), None)
