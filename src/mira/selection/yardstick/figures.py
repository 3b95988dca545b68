"""`kept.json`: what length and masks do to a selection, source by source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mira.arrays import Floats, Words
from mira.hashing import uniform
from mira.run_folder.paths import RunFolder
from mira.selection.map_shards import map_shards
from mira.selection.methods.mira import Mira
from mira.selection.ordering import values_of_keys
from mira.selection.planning import Plan, make_plan
from mira.selection.ranks.kept import kept_below
from mira.selection.ranks.rank_file import Head, ranks_path, read_ranks
from mira.selection.ranks.shared import shared_plan
from mira.selection.sweeps import Read
from mira.selection.value_reader import ValueChunk, read_values
from mira.selection.values import SelectionInputs, SelectionMethod, values_path
from mira.selection.write import Counts, Rule, keep_mask
from mira.selection.yardstick.yardsticks import (
    CompareBy,
    load_yardsticks,
    unshared,
    yardstick_notes,
)
from mira.stats import spearman

__all__ = ["HIGH_RHO", "Kept", "SourceFigures", "kept_figures"]

_SAMPLE = 50_000  # records of a source that its rank correlation is taken over, chosen by hash
HIGH_RHO = 0.6
"""Above this rank correlation with length, records rank by length as much as by quality (ours)."""
_COMPARED: tuple[CompareBy, ...] = ("own", "shared")
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
    """One file of values, how it is read, and the share of its records that is sampled."""

    source: str
    path: Path
    read: Read
    rule: Rule
    share: float


def _tasks(run: RunFolder, plan: Plan, share: Mapping[str, float]) -> list[_Task]:
    read: Read = read_ranks if plan.heads else read_values
    path = ranks_path if plan.heads else values_path
    return [
        _Task(source, path(run, plan.folder, source, shard.name), read, plan.rule(source), share[source])
        for source, parts in plan.shards.items()
        if source in share
        for shard in parts
    ]


def _length_rhos(inputs: SelectionInputs, plan: Plan) -> Iterator[tuple[str, float]]:
    ranked: dict[str, int] = {}
    for summary in plan.summaries:
        if not summary.masked:
            ranked[summary.source] = ranked.get(summary.source, 0) + summary.ranked_records
    share = {source: min(1.0, _SAMPLE / n) for source, n in ranked.items() if n}
    samples: dict[str, list[tuple[Words, Floats, Floats]]] = {}
    for source, head in plan.heads.items():
        rule = plan.rule(source)
        if source in share and _suffices(head, share[source], rule):
            samples[source] = [_sample(_chunk_of(head), rule, share[source])]
    tasks = _tasks(inputs.run, plan, {source: part for source, part in share.items() if source not in samples})
    for source, sample in map_shards(inputs.score if plan.heads else inputs.near, _sampled, tasks):
        samples.setdefault(source, []).append(sample)
    for source, parts in samples.items():
        ties, values, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(ties, kind="stable")  # so that sharding does not change the last digit
        rho = spearman(values[order], tokens[order])
        if np.isfinite(rho):
            yield source, rho


def _suffices(head: Head, share: float, rule: Rule) -> bool:
    """Return whether the sample of a source's rank files has all the records that are wanted."""
    by_stratum = any(part.unit.stratum for part in rule.parts)
    return not by_stratum and bool(uniform(np.array([head.sampled], np.uint64))[0] >= share)


def _chunk_of(head: Head) -> ValueChunk:
    keys, ties, tokens = head.sample
    nothing = pa.nulls(len(keys), pa.string())
    return ValueChunk(values_of_keys(keys), ties, tokens.astype(np.int32), nothing, nothing)


def _sampled(task: _Task) -> tuple[str, tuple[Words, Floats, Floats]]:
    """Return tie hashes, ranking values and tokens of a file's sample."""
    parts = [(np.zeros(0, np.uint64), np.zeros(0), np.zeros(0))]
    parts += [_sample(chunk, task.rule, task.share) for chunk in task.read(task.path)]
    ties, values, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
    return task.source, (ties, values, tokens)


def _sample(chunk: ValueChunk, rule: Rule, share: float) -> tuple[Words, Floats, Floats]:
    parts = [(np.zeros(0, np.uint64), np.zeros(0), np.zeros(0))]
    for part in rule.parts:
        has = chunk.ranked(part.unit) & (uniform(chunk.ties) < share)
        values = part.ranking(chunk.values[has], chunk.ties[has], chunk.n_tokens[has])
        parts.append((chunk.ties[has], values, chunk.n_tokens[has].astype(np.float64)))
    ties, values, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ties, values, tokens


def _shares(
    inputs: SelectionInputs, plan: Plan, counts: Sequence[Counts]
) -> dict[str, tuple[float | None, float | None]]:
    """Return source -> the share of its tokens that is kept by own masks, and by shared slots."""
    if not isinstance(plan.method, Mira):
        return {}
    tokens_in = {source: _totals(source, counts)[1] for source in plan.shards}
    others = compared(inputs, plan.method)

    def shares(name: CompareBy) -> dict[str, float | None]:
        if name in others:
            kept = _kept_by(_compared_by(inputs, name), others[name])
        else:
            kept = {source: _totals(source, counts)[3] for source in plan.shards}
        return {source: kept[source] / tokens if tokens else None for source, tokens in tokens_in.items()}

    by_own = shares("own")
    shared = load_yardsticks(plan.settings, inputs.run, "shared")
    by_shared = by_own if "own" in others and shared == others["own"].yardsticks else shares("shared")
    lacking = unshared(plan.settings, inputs.run)
    return {source: (by_own[source], None if source in lacking else by_shared[source]) for source in plan.shards}


def compared(inputs: SelectionInputs, method: SelectionMethod) -> dict[CompareBy, Mira]:
    """Return what else sources are compared by, to tell what masks move: by own masks, or by shared slots.

    What equals the method, or is there already, is left out.
    """
    found: dict[CompareBy, Mira] = {}
    if isinstance(method, Mira):
        for name in _COMPARED:
            yardsticks = load_yardsticks(inputs.select, inputs.run, name)
            if all(yardsticks != other.yardsticks for other in (method, *found.values())):
                select = _compared_by(inputs, name).select
                found[name] = Mira(yardsticks, select, inputs.seed, f"mira.{name}")
    return found


def _compared_by(inputs: SelectionInputs, name: CompareBy) -> SelectionInputs:
    return replace(inputs, select=inputs.select.model_copy(update={"compare_by": name}))


def _kept_by(inputs: SelectionInputs, method: Mira) -> dict[str, int]:
    """Return source -> the tokens that a selection by another method would keep."""
    plan = shared_plan(inputs, method) or make_plan(inputs, method)
    quick = kept_below(inputs, plan)
    kept = {source: quick.get(source, 0) for source in plan.shards}
    others = {source: 0.0 for source in plan.shards if source not in quick}
    for source, tokens in map_shards(
        inputs.score if plan.heads else inputs.near, _kept_tokens, _tasks(inputs.run, plan, others)
    ):
        kept[source] += tokens
    return kept


def _kept_tokens(task: _Task) -> tuple[str, int]:
    chunks = task.read(task.path)
    return task.source, sum(int(c.n_tokens[keep_mask(task.rule, c)].sum(dtype=np.int64)) for c in chunks)
