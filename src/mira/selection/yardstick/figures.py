"""`kept.json`: what length and masks do to a selection, source by source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mira.arrays import Floats, Words
from mira.hashing import uniform
from mira.run_folder.paths import RunFolder
from mira.selection.map_shards import map_shards
from mira.selection.methods.mira import Mira
from mira.selection.planning import Plan, make_plan
from mira.selection.value_reader import read_values
from mira.selection.values import SelectionInputs, values_path
from mira.selection.write import Counts, Rule, keep_mask
from mira.selection.yardstick.yardsticks import (
    CompareBy,
    Yardstick,
    load_yardsticks,
    unshared,
    yardstick_notes,
)
from mira.stats import spearman

__all__ = ["HIGH_RHO", "Kept", "SourceFigures", "kept_figures"]

_SAMPLE = 50_000  # records of a source that its rank correlation is taken over, chosen by hash
HIGH_RHO = 0.6
"""Above this rank correlation with length, records rank by length as much as by quality (ours)."""
_FAR = 0.1  # share of a source's tokens; what a mask moves beyond it is a warning (ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """Length and mask of one source. None: nothing to measure.

    Attributes:
        tokens_each: Tokens per valid record.
        tokens_each_kept: Tokens per kept record.
        length_rho: Spearman's rho of what records rank by and their tokens, over at most 50,000 records chosen by hash.
        own: Share of its tokens that is kept if all sources are compared by their own masks.
        shared: The same if they are compared by the slots that all sources trust which compete.
        mask_moves: What the masks alone move: `own` less `shared`.
        slots: Slots that its records were compared by.
    """

    tokens_each: float | None = None
    tokens_each_kept: float | None = None
    length_rho: float | None = None
    own: float | None = None
    shared: float | None = None
    mask_moves: float | None = None
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The content of kept.json.

    Attributes:
        compare_by: What sources were compared by; "" if the method is not mira.
        sources: Source -> its figures.
        notes: What the user should know of them.
    """

    compare_by: str = ""
    sources: dict[str, SourceFigures] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def kept_figures(inputs: SelectionInputs, plan: Plan, counts: Sequence[Counts]) -> Kept:
    """Measure what length and masks do to a selection.

    If masks differ among sources that compete, records are ranked and cutoffs found once more, by the slots that all of
    them trust (or by their own masks): the files are `values/mira.shared/` (`values/mira.own/`).

    Args:
        inputs: What the selection was made from.
        plan: The selection.
        counts: What was written of every shard.
    """
    rhos = dict(_length_rhos(inputs, plan)) if plan.method.has_quality else {}
    shares = _shares(inputs, plan, counts)
    sources = {}
    for source in sorted(plan.shards):
        records, tokens, kept, tokens_kept = _totals(source, counts)
        own, shared = shares.get(source, (None, None))
        sources[source] = SourceFigures(
            tokens_each=tokens / records if records else None,
            tokens_each_kept=tokens_kept / kept if kept else None,
            length_rho=rhos.get(source),
            own=own,
            shared=shared,
            mask_moves=None if own is None or shared is None else own - shared,
            slots=plan.method.yardsticks[source].slots if isinstance(plan.method, Mira) else (),
        )
    is_mira = isinstance(plan.method, Mira)
    notes = [*(yardstick_notes(plan.settings, inputs.run) if is_mira else ()), *_notes(plan, sources)]
    return Kept(compare_by=plan.settings.compare_by if is_mira else "", sources=sources, notes=notes)


def _totals(source: str, counts: Sequence[Counts]) -> tuple[int, int, int, int]:
    parts = [c for c in counts if c.source == source]
    sums = ((c.records_in, c.tokens_in, c.kept, c.tokens_kept) for c in parts)
    records, tokens, kept, tokens_kept = (sum(column) for column in zip((0, 0, 0, 0), *sums, strict=True))
    return records, tokens, kept, tokens_kept


def _notes(plan: Plan, sources: Mapping[str, SourceFigures]) -> Iterator[str]:
    by_strata = plan.settings.length.control == "strata"  # then length decides within a stratum alone
    for source, found in sources.items():
        if not by_strata and found.length_rho is not None and abs(found.length_rho) > HIGH_RHO:
            yield (
                f"WARNING: {source}: records rank by length as much as by quality (Spearman {found.length_rho:.2f} of "
                f"rank and tokens; {found.tokens_each or 0:,.0f} tokens per record, {found.tokens_each_kept or 0:,.0f} "
                "per kept record). See select.length.control."
            )
        moves = found.mask_moves
        if plan.settings.compare_by == "own" and moves is not None and abs(moves) > _FAR:
            yield (
                f"WARNING: {source} keeps {found.own:.0%} of its tokens by its own mask, but would keep "
                f"{found.shared:.0%} by the slots that all competing sources trust. See select.compare_by."
            )


class _Task(NamedTuple):
    """One file of values, and the share of its records that is sampled."""

    source: str
    path: Path
    rule: Rule
    share: float


def _tasks(run: RunFolder, plan: Plan, share: Mapping[str, float]) -> list[_Task]:
    return [
        _Task(source, values_path(run, plan.folder, source, shard.name), plan.rule(source), share.get(source, 0.0))
        for source, parts in plan.shards.items()
        for shard in parts
    ]


def _length_rhos(inputs: SelectionInputs, plan: Plan) -> Iterator[tuple[str, float]]:
    ranked: dict[str, int] = {}
    for summary in plan.summaries:
        if not summary.masked:
            ranked[summary.source] = ranked.get(summary.source, 0) + summary.ranked_records
    tasks = _tasks(inputs.run, plan, {source: min(1.0, _SAMPLE / n) for source, n in ranked.items() if n})
    samples: dict[str, list[tuple[Words, Floats, Floats]]] = {}
    for source, sample in map_shards(inputs.score, _sampled, tasks):
        samples.setdefault(source, []).append(sample)
    for source, parts in samples.items():
        ties, values, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(ties, kind="stable")  # so that sharding does not change the last digit
        rho = spearman(values[order], tokens[order])
        if np.isfinite(rho):
            yield source, rho


def _sampled(task: _Task) -> tuple[str, tuple[Words, Floats, Floats]]:
    """Return tie hashes, ranking values and tokens of a file's sample."""
    parts = [(np.zeros(0, np.uint64), np.zeros(0), np.zeros(0))]
    for chunk in read_values(task.path):
        for part in task.rule.parts:
            has = chunk.ranked(part.unit) & (uniform(chunk.ties) < task.share)
            values = part.ranking(chunk.values[has], chunk.ties[has], chunk.n_tokens[has])
            parts.append((chunk.ties[has], values, chunk.n_tokens[has].astype(np.float64)))
    ties, values, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
    return task.source, (ties, values, tokens)


def _shares(
    inputs: SelectionInputs, plan: Plan, counts: Sequence[Counts]
) -> dict[str, tuple[float | None, float | None]]:
    """Return source -> the share of its tokens that is kept by own masks, and by shared slots."""
    if not isinstance(plan.method, Mira):
        return {}
    tokens_in = {source: _totals(source, counts)[1] for source in plan.shards}
    chosen = plan.method.yardsticks
    own = load_yardsticks(plan.settings, inputs.run, "own")
    shared = load_yardsticks(plan.settings, inputs.run, "shared")

    def shares(name: CompareBy, yardsticks: Mapping[str, Yardstick]) -> dict[str, float | None]:
        if yardsticks == chosen:
            kept = {source: _totals(source, counts)[3] for source in plan.shards}
        else:
            settings = inputs.select.model_copy(update={"compare_by": name})
            method = Mira(yardsticks, settings, inputs.seed, f"mira.{name}")
            other = make_plan(replace(inputs, select=settings), method)
            kept = dict.fromkeys(plan.shards, 0)
            for source, tokens in map_shards(inputs.score, _kept_tokens, _tasks(inputs.run, other, {})):
                kept[source] += tokens
        return {source: kept[source] / tokens if tokens else None for source, tokens in tokens_in.items()}

    by_own = shares("own", own)
    by_shared = by_own if own == shared else shares("shared", shared)
    lacking = unshared(plan.settings, inputs.run)
    return {source: (by_own[source], None if source in lacking else by_shared[source]) for source in plan.shards}


def _kept_tokens(task: _Task) -> tuple[str, int]:
    chunks = read_values(task.path)
    return task.source, sum(int(c.n_tokens[keep_mask(task.rule, c)].sum(dtype=np.int64)) for c in chunks)
