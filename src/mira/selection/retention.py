"""Retention: what is kept of ranked records under a token budget, the same for every method.

- The budget is a share of all valid tokens, or a count. Scope `global` is one pool; `group` and `source` split the
  budget over groups or sources in proportion to their valid tokens (ours). Records compete within their pool.
- A source whose every slot is masked is a pool of its own with its share of the budget (`masked_source: random`).
- Within a pool records rank by value, ties by a hash of (seed, source, id), and the kept set is a prefix of that
  ranking: it ends before the first record that does not fit.
- `source_min` and `source_max` bound what a source keeps, each to within one record: where the pool's cutoff would
  give a source less or more, it has a cutoff of its own and the pool's cutoff moves.
- Tokens that a pool cannot fill (too few of its records are ranked) go to the other pools.
- With a temperature T the ranking is by z + T * g: z is the value standardised within its pool (ours), g a Gumbel
  draw from the id's hash (QuRating, arXiv 2402.09739).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config import SelectSettings
from mira.errors import BudgetError, ConfigError
from mira.selection.blocks import BLOCK
from mira.selection.budget import Share, parse_tokens, split
from mira.selection.cuts import (
    ALL,
    NOTHING,
    Chunk,
    Cutoff,
    Found,
    Interval,
    Problem,
    Sweep,
    Tally,
    find_cutoffs,
    merge,
    tally,
)
from mira.selection.keys import Floats, Words, gumbel, rank_keys
from mira.selection.moments import Moments
from mira.selection.values import Summary

__all__ = ["NO_NOISE", "Each", "Noise", "Pool", "Retention", "SourceRule", "ValueChunk", "read_values", "retain"]


@dataclass(frozen=True)
class Noise:
    """How a pool's values are made noisy; the default leaves them as they are."""

    temperature: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    def __call__(self, values: Floats, ties: Words) -> Floats:
        """Return what records rank by."""
        if not self.temperature:
            return values
        z = (values - self.mean) / self.deviation if self.deviation > 0 else np.zeros(len(values))
        return np.asarray(z + self.temperature * gumbel(ties), dtype=np.float64)


NO_NOISE = Noise()


@dataclass(frozen=True)
class Pool:
    """Records that compete, and their cutoff.

    Attributes:
        key: "global", a group, a source, or "<source> (masked)".
        sources: Its sources.
        budget: Tokens it may keep.
        noise: Its noise.
        cutoff: The last record kept of sources without a floor or cap in effect.
    """

    key: str
    sources: tuple[str, ...]
    budget: int
    noise: Noise = NO_NOISE
    cutoff: Cutoff = ALL


@dataclass(frozen=True)
class SourceRule:
    """What is kept of one source: the pool's cutoff, moved by the source's floor or cap."""

    source: str
    pool: Pool
    cutoff: Cutoff


@dataclass(frozen=True)
class Retention:
    """What a budget comes to.

    Attributes:
        budget: Tokens asked for.
        pools: The pools by key.
        rules: Source -> its rule. Sources of which nothing competes are missing.
        notes: What the user should know (floors that a source cannot fill, budget above what is ranked).
    """

    budget: int
    pools: Mapping[str, Pool]
    rules: Mapping[str, SourceRule]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Bounds:
    """A source's tokens: valid, ranked, floor and cap."""

    valid: int
    ranked: int
    floor: int
    cap: int | None

    @property
    def most(self) -> int:
        return self.ranked if self.cap is None else min(self.cap, self.ranked)


class Each(Protocol):
    """Runs a function over items, in any order: threads, processes or Ray."""

    def __call__(self, function: Callable[["_Task"], "_Done"], items: Sequence["_Task"], /) -> Iterable["_Done"]:
        """Return the results as they come."""
        ...


class _Task(NamedTuple):
    """One shard's values to tally."""

    source: str
    path: Path
    noise: Noise
    intervals: tuple[Interval, ...]


_Done = tuple[str, list[Tally] | Moments]


def retain(
    settings: SelectSettings,
    summaries: Sequence[Summary],
    group_of: Mapping[str, str],
    paths: Mapping[str, Sequence[Path]],
    each: Each,
) -> Retention:
    """Find what every source keeps.

    Args:
        settings: Budget, scope, floors, caps, temperature.
        summaries: One a shard, in any order.
        group_of: Source -> group; read where the scope is `group`.
        paths: Source -> the files of its values.
        each: Runs the sweeps over these files.

    Raises:
        BudgetError: Budget, floors and caps contradict each other.
        ConfigError: A floor or cap is no number of tokens, or names an unknown source.
    """
    notes: list[str] = []
    bounds = _bounds(settings, summaries, notes)
    keys = _pool_keys(settings, summaries, group_of)
    total = sum(b.valid for b in bounds.values())
    budget = parse_tokens(settings.budget, total, "select.budget")
    parts = _split(budget, bounds, keys, settings.scope, notes)
    members: dict[str, list[str]] = {}
    for source in sorted(keys):
        members.setdefault(keys[source], []).append(source)
    pools = [Pool(key, tuple(sources), parts[key]) for key, sources in sorted(members.items())]
    if settings.temperature:
        pools = _with_noise(pools, settings.temperature, paths, each)
    noise = {source: pool.noise for pool in pools for source in pool.sources}

    def sweep(wanted: Mapping[str, Sequence[Interval]]) -> Iterable[tuple[str, Sequence[Tally]]]:
        tasks = [_Task(s, path, noise[s], tuple(intervals)) for s, intervals in wanted.items() for path in paths[s]]
        return ((source, tallies) for source, tallies in each(_tallies, tasks) if not isinstance(tallies, Moments))

    settled, rules = _cut(pools, bounds, sweep)
    return Retention(budget, settled, rules, tuple(notes))


def _bounds(settings: SelectSettings, summaries: Sequence[Summary], notes: list[str]) -> dict[str, _Bounds]:
    names = sorted({s.source for s in summaries})
    for setting, given in (("source_min", settings.source_min), ("source_max", settings.source_max)):
        for name in given:
            if name not in names:
                near = get_close_matches(name, names, 1)
                raise ConfigError(
                    f"select.{setting}: there is no source '{name}'",
                    f"Did you mean '{near[0]}'?" if near else f"Sources are {', '.join(names)}.",
                )
    return {name: _source_bounds(settings, name, [s for s in summaries if s.source == name], notes) for name in names}


def _source_bounds(settings: SelectSettings, name: str, parts: Sequence[Summary], notes: list[str]) -> _Bounds:
    valid, ranked = sum(s.tokens for s in parts), sum(s.ranked_tokens for s in parts)
    least = parse_tokens(settings.source_min.get(name, 0), valid, f"select.source_min.{name}")
    cap = (
        parse_tokens(settings.source_max[name], valid, f"select.source_max.{name}")
        if name in settings.source_max
        else None
    )
    if cap is not None and least > cap:
        raise BudgetError(
            f"source '{name}': source_min is {least:,} tokens, source_max {cap:,}",
            "Lower source_min or raise source_max.",
        )
    if least > ranked:
        notes.append(f"source '{name}' has {ranked:,} tokens that can be kept: all are, its floor is {least:,}")
    return _Bounds(valid, ranked, min(least, ranked), cap)


def _pool_keys(settings: SelectSettings, summaries: Sequence[Summary], group_of: Mapping[str, str]) -> dict[str, str]:
    """Return source -> pool of the sources of which anything competes."""
    keys = {}
    for summary in summaries:
        if not summary.ranked_records:
            continue
        if settings.scope == "source":
            keys[summary.source] = summary.source
        elif summary.masked:
            keys[summary.source] = f"{summary.source} (masked)"
        else:
            keys[summary.source] = "global" if settings.scope == "global" else group_of[summary.source]
    return keys


def _split(
    budget: int, bounds: Mapping[str, _Bounds], keys: Mapping[str, str], scope: str, notes: list[str]
) -> dict[str, int]:
    """Return pool -> tokens that it may keep."""
    ranked = sum(bounds[source].ranked for source in keys)
    if budget > ranked:
        notes.append(f"the budget of {budget:,} tokens holds all {ranked:,} tokens that are ranked")
    shares: dict[str, Share] = {}
    for source, key in sorted(keys.items()):
        b, before = bounds[source], shares.get(key, Share(0, 0, 0))
        shares[key] = Share(before.weight + b.valid, before.least + b.floor, before.most + b.most)
    most = sum(share.most for share in shares.values())
    wanted = min(budget, ranked)
    if 0 < wanted - most <= len(keys):  # caps written as shares are rounded down, one token a source at most
        wanted = most
    return split(wanted, shares, f"select with scope {scope}")


def _with_noise(
    pools: Sequence[Pool], temperature: float, paths: Mapping[str, Sequence[Path]], each: Each
) -> list[Pool]:
    tasks = [_Task(s, path, NO_NOISE, ()) for pool in pools for s in pool.sources for path in paths[s]]
    sums: dict[str, Moments] = {}
    for source, moments in each(_moments, tasks):
        if isinstance(moments, Moments):
            sums[source] = sums.get(source, Moments()) + moments
    noisy = []
    for pool in pools:
        of_pool = sum((sums[source] for source in pool.sources if source in sums), Moments())
        noisy.append(replace(pool, noise=Noise(temperature, of_pool.mean, of_pool.deviation)))
    return noisy


def _cut(
    pools: Sequence[Pool], bounds: Mapping[str, _Bounds], sweep: Sweep
) -> tuple[dict[str, Pool], dict[str, SourceRule]]:
    limits = _limits(pools, bounds, sweep)
    problems = [
        Problem(p.sources, p.budget, {s: (limits[s][0].tokens, limits[s][1].tokens) for s in p.sources if s in limits})
        for p in pools
    ]
    settled = [
        replace(pool, cutoff=found.cutoff) for pool, found in zip(pools, find_cutoffs(problems, sweep), strict=True)
    ]
    rules = {}
    for pool in settled:
        for source in pool.sources:
            floor, cap = (f.cutoff for f in limits.get(source, (Found(NOTHING, 0), Found(ALL, 0))))
            rules[source] = SourceRule(source, pool, min(max(pool.cutoff, floor), cap))
    return {pool.key: pool for pool in settled}, rules


def _limits(pools: Sequence[Pool], bounds: Mapping[str, _Bounds], sweep: Sweep) -> dict[str, tuple[Found, Found]]:
    """Find the cutoffs at floor and cap of every bounded source that shares its pool."""
    shared = [source for pool in pools if len(pool.sources) > 1 for source in pool.sources]
    bounded = [s for s in shared if bounds[s].floor or bounds[s].cap is not None]
    problems = [Problem((s,), tokens) for s in bounded for tokens in (bounds[s].floor, bounds[s].most)]
    found = find_cutoffs(problems, sweep)
    return {source: (found[2 * at], found[2 * at + 1]) for at, source in enumerate(bounded)}


@dataclass(frozen=True, slots=True)
class ValueChunk:
    """Consecutive records of a shard's values.

    Attributes:
        values: float64, NaN where there is none.
        ties: Tie hashes.
        n_tokens: Tokens, int32.
        reasons: Why there is no value, or "masked_source"; null elsewhere.
    """

    values: Floats
    ties: Words
    n_tokens: npt.NDArray[np.int32]
    reasons: pa.Array

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> "ValueChunk":
        """Return records `start` to `stop`."""
        return ValueChunk(
            self.values[start:stop], self.ties[start:stop], self.n_tokens[start:stop], self.reasons[start:stop]
        )


def read_values(path: Path) -> Iterator[ValueChunk]:
    """Yield a shard's values in row order, a block at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BLOCK, use_threads=False):
            yield ValueChunk(
                batch["value"].to_numpy(zero_copy_only=False), batch["tie"].to_numpy(), batch["n_tokens"].to_numpy(),
                batch["reason"],
            )  # fmt: skip


def _tallies(task: _Task) -> _Done:
    chunks: list[list[Tally]] = [[] for _ in task.intervals]
    for part in read_values(task.path):
        has = ~np.isnan(part.values)
        values, ties, tokens = part.values, part.ties, part.n_tokens
        if not has.all():
            values, ties, tokens = values[has], ties[has], tokens[has]
        chunk = Chunk(rank_keys(task.noise(values, ties)), ties, tokens.astype(np.int64))
        for interval, parts in zip(task.intervals, chunks, strict=True):
            parts.append(tally(interval, chunk))
    return task.source, [merge(parts, interval) for interval, parts in zip(task.intervals, chunks, strict=True)]


def _moments(task: _Task) -> _Done:
    parts = (Moments.of(part.values[~np.isnan(part.values)]) for part in read_values(task.path))
    return task.source, sum(parts, Moments())
