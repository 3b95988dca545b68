"""Retention: what is kept of ranked records under a token budget, the same for every method.

- The budget is a share of all valid tokens, or a count. Scope `global` is one pool; `group` and `source` split the
  budget over groups or sources in proportion to their valid tokens (ours). Records compete within their pool.
- A source whose every slot is masked is a pool of its own with its share of the budget (`masked_source: random`).
- Within a pool records rank by value, ties by a hash of (seed, source, id), and the kept set is a prefix of that
  ranking: it ends before the first record that does not fit.
- `source_min` and `source_max` bound what a source keeps, each to within one record: where the pool's cutoff would
  give a source less or more, it has a cutoff of its own and the pool's cutoff moves.
- Tokens that a pool cannot fill (too few of its records are ranked) go to the other pools.
- DataMan's budget is split over the domains of each pool, too: then a (source, domain) has a cutoff of its own.
- With a temperature T the ranking is by z + T * g: z is the value standardised within its pool (ours), g a Gumbel
  draw from the id's hash (QuRating, arXiv 2402.09739).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mira.arrays import Floats, Words
from mira.config.settings import SelectSettings
from mira.errors import BudgetError, ConfigError
from mira.selection.budget import Share, split
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
from mira.selection.exact_moments import Moments
from mira.selection.ordering import gumbel, rank_keys, value_of_key
from mira.selection.value_reader import read_values
from mira.selection.values import Summary

__all__ = [
    "AS_IT_IS",
    "Each",
    "Pool",
    "Ranking",
    "Retention",
    "SourceRule",
    "retain",
    "unit_of",
]


@dataclass(frozen=True)
class Ranking:
    """What records of a pool rank by; the default is their value.

    Attributes:
        median: Rank by the distance to this value, the nearest first.
        temperature: Size of the Gumbel noise that is added to the standardised value.
        mean: Mean of the pool's values (or distances), where there is a temperature.
        deviation: Their standard deviation.
    """

    median: float | None = None
    temperature: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    def __call__(self, values: Floats, ties: Words) -> Floats:
        """Return what records rank by."""
        if self.median is not None:
            values = -np.abs(values - self.median)
        if not self.temperature:
            return values
        z = (values - self.mean) / self.deviation if self.deviation > 0 else np.zeros(len(values))
        return np.asarray(z + self.temperature * gumbel(ties), dtype=np.float64)


AS_IT_IS = Ranking()


@dataclass(frozen=True)
class Pool:
    """Records that compete, and their cutoff.

    Attributes:
        key: "global", a group, a source, or "<source> (masked)".
        units: Its sources, or strata of sources ("<source><tab><stratum>").
        budget: Tokens it may keep.
        ranking: Its ranking.
        cutoff: The last record kept of sources without a floor or cap in effect.
    """

    key: str
    units: tuple[str, ...]
    budget: int
    ranking: Ranking = AS_IT_IS
    cutoff: Cutoff = ALL


@dataclass(frozen=True)
class SourceRule:
    """What is kept of one source or stratum: the pool's cutoff, moved by the source's floor or cap."""

    unit: str
    pool: Pool
    cutoff: Cutoff


@dataclass(frozen=True)
class Retention:
    """What a budget comes to.

    Attributes:
        budget: Tokens asked for.
        pools: The pools by key.
        rules: Unit -> its rule. Units of which nothing competes are missing.
        notes: What the user should know (floors that a source cannot fill, budget above what is ranked).
    """

    budget: int
    pools: Mapping[str, Pool]
    rules: Mapping[str, SourceRule]
    notes: tuple[str, ...]

    def of_source(self, source: str) -> list[SourceRule]:
        """Return the rules of a source: one, or one a stratum; none where nothing of it competes."""
        return [rule for unit, rule in self.rules.items() if unit.partition("\t")[0] == source]


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


class _Wanted(NamedTuple):
    """What is wanted of a shard's records of one unit."""

    unit: str
    ranking: Ranking
    intervals: tuple[Interval, ...]


class _Task(NamedTuple):
    """One shard's values to tally."""

    path: Path
    wanted: tuple[_Wanted, ...]


_Done = list[tuple[str, list[Tally] | Moments]]


def unit_of(source: str, stratum: str = "") -> str:
    """Return the name of what has one cutoff: a source, or one stratum of it."""
    return f"{source}\t{stratum}" if stratum else source


def retain(
    settings: SelectSettings,
    summaries: Sequence[Summary],
    group_of: Mapping[str, str],
    paths: Mapping[str, Sequence[Path]],
    each: Each,
    *,
    to_median: bool = False,
) -> Retention:
    """Find what every source keeps.

    Args:
        settings: Budget, scope, floors, caps, temperature.
        summaries: One a shard, in any order.
        group_of: Source -> group; read where the scope is `group`.
        paths: Source -> the files of its values.
        each: Runs the sweeps over these files.
        to_median: Rank by the distance to the pool's median (by tokens), the nearest first.

    Raises:
        BudgetError: Budget, floors and caps contradict each other.
        ConfigError: A floor or cap is no number of tokens, names an unknown source, or meets a method with strata.
    """
    notes: list[str] = []
    bounds = _bounds(settings, summaries, notes)
    keys = _pool_keys(settings, summaries, group_of)
    total = sum(s.tokens for s in summaries)
    budget = settings.budget.of(total)
    parts = _split(budget, bounds, keys, settings.scope, notes)
    members: dict[str, list[str]] = {}
    for unit in sorted(keys):
        members.setdefault(keys[unit], []).append(unit)
    pools = [Pool(key, tuple(units), parts[key]) for key, units in sorted(members.items())]
    if to_median:
        halves = [sum(bounds[unit].ranked for unit in pool.units) // 2 for pool in pools]
        problems = [Problem(pool.units, half) for pool, half in zip(pools, halves, strict=True)]
        medians = [value_of_key(max(f.cutoff.value, 0)) for f in find_cutoffs(problems, _sweeper(pools, paths, each))]
        pools = [replace(pool, ranking=Ranking(median)) for pool, median in zip(pools, medians, strict=True)]
    if settings.temperature:
        pools = _noisy(pools, settings.temperature, paths, each)
    settled, rules = _cut(pools, bounds, _sweeper(pools, paths, each))
    return Retention(budget, settled, rules, tuple(notes))


def _tasks(
    pools: Sequence[Pool], paths: Mapping[str, Sequence[Path]], intervals: Mapping[str, Sequence[Interval]]
) -> list[_Task]:
    of_source: dict[str, list[_Wanted]] = {}
    for pool in pools:
        for unit in pool.units:
            if unit in intervals:
                wanted = _Wanted(unit, pool.ranking, tuple(intervals[unit]))
                of_source.setdefault(unit.partition("\t")[0], []).append(wanted)
    return [_Task(path, tuple(wanted)) for source, wanted in of_source.items() for path in paths[source]]


def _sweeper(pools: Sequence[Pool], paths: Mapping[str, Sequence[Path]], each: Each) -> Sweep:
    def sweep(wanted: Mapping[str, Sequence[Interval]]) -> Iterable[tuple[str, Sequence[Tally]]]:
        for done in each(_tallies, _tasks(pools, paths, wanted)):
            yield from ((unit, found) for unit, found in done if not isinstance(found, Moments))

    return sweep


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
    bounds: dict[str, _Bounds] = {}
    for name in names:
        parts = [s for s in summaries if s.source == name]
        if not any(part.strata for part in parts):
            bounds[name] = _source_bounds(settings, name, parts, notes)
        elif name in settings.source_min or name in settings.source_max:
            raise ConfigError(
                f"select.source_min, source_max: source '{name}' is split by domain, and has no one cutoff to move",
                "Set select.dataman.by_domain: false, or take the bound away.",
            )
        else:
            bounds |= _strata_bounds(name, parts)
    return bounds


def _strata_bounds(source: str, parts: Sequence[Summary]) -> dict[str, _Bounds]:
    found: dict[str, _Bounds] = {}
    for part in parts:
        for stratum, (tokens, ranked) in part.strata.items():
            unit = unit_of(source, stratum)
            before = found.get(unit, _Bounds(0, 0, 0, None))
            found[unit] = _Bounds(before.valid + tokens, before.ranked + ranked, 0, None)
    return found


def _source_bounds(settings: SelectSettings, name: str, parts: Sequence[Summary], notes: list[str]) -> _Bounds:
    valid, ranked = sum(s.tokens for s in parts), sum(s.ranked_tokens for s in parts)
    floor, ceiling = settings.source_min.get(name), settings.source_max.get(name)
    least = floor.of(valid) if floor else 0
    cap = ceiling.of(valid) if ceiling else None
    if cap is not None and least > cap:
        raise BudgetError(
            f"source '{name}': source_min is {least:,} tokens, source_max {cap:,}",
            "Lower source_min or raise source_max.",
        )
    if least > ranked:
        notes.append(f"source '{name}' has {ranked:,} tokens that can be kept: all are, its floor is {least:,}")
    return _Bounds(valid, ranked, min(least, ranked), cap)


def _pool_keys(settings: SelectSettings, summaries: Sequence[Summary], group_of: Mapping[str, str]) -> dict[str, str]:
    """Return unit -> pool of the units of which anything competes."""
    keys = {}
    for summary in summaries:
        if not summary.ranked_records:
            continue
        if settings.scope == "source":
            key = summary.source
        elif summary.masked:
            key = f"{summary.source} (masked)"
        else:
            key = "global" if settings.scope == "global" else group_of[summary.source]
        if not summary.strata:
            keys[summary.source] = key
        for stratum, (_, ranked) in summary.strata.items():
            if ranked:
                keys[unit_of(summary.source, stratum)] = f"{key}: {stratum}"
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


def _noisy(pools: Sequence[Pool], temperature: float, paths: Mapping[str, Sequence[Path]], each: Each) -> list[Pool]:
    sums: dict[str, Moments] = {}
    for done in each(_moments, _tasks(pools, paths, {unit: () for pool in pools for unit in pool.units})):
        for unit, found in done:
            if isinstance(found, Moments):
                sums[unit] = sums.get(unit, Moments()) + found
    noisy = []
    for pool in pools:
        of_pool = sum((sums[unit] for unit in pool.units if unit in sums), Moments())
        ranking = replace(pool.ranking, temperature=temperature, mean=of_pool.mean, deviation=of_pool.deviation)
        noisy.append(replace(pool, ranking=ranking))
    return noisy


def _cut(
    pools: Sequence[Pool], bounds: Mapping[str, _Bounds], sweep: Sweep
) -> tuple[dict[str, Pool], dict[str, SourceRule]]:
    limits = _limits(pools, bounds, sweep)
    problems = [
        Problem(p.units, p.budget, {s: (limits[s][0].tokens, limits[s][1].tokens) for s in p.units if s in limits})
        for p in pools
    ]
    settled = [
        replace(pool, cutoff=found.cutoff) for pool, found in zip(pools, find_cutoffs(problems, sweep), strict=True)
    ]
    rules = {}
    for pool in settled:
        for source in pool.units:
            floor, cap = (f.cutoff for f in limits.get(source, (Found(NOTHING, 0), Found(ALL, 0))))
            rules[source] = SourceRule(source, pool, min(max(pool.cutoff, floor), cap))
    return {pool.key: pool for pool in settled}, rules


def _limits(pools: Sequence[Pool], bounds: Mapping[str, _Bounds], sweep: Sweep) -> dict[str, tuple[Found, Found]]:
    """Find the cutoffs at floor and cap of every bounded source that shares its pool."""
    shared = [source for pool in pools if len(pool.units) > 1 for source in pool.units]
    bounded = [s for s in shared if bounds[s].floor or bounds[s].cap is not None]
    problems = [Problem((s,), tokens) for s in bounded for tokens in (bounds[s].floor, bounds[s].most)]
    found = find_cutoffs(problems, sweep)
    return {source: (found[2 * at], found[2 * at + 1]) for at, source in enumerate(bounded)}


def _tallies(task: _Task) -> _Done:
    found: list[list[list[Tally]]] = [[[] for _ in wanted.intervals] for wanted in task.wanted]
    for part in read_values(task.path):
        for wanted, of_unit in zip(task.wanted, found, strict=True):
            has = part.ranked(wanted.unit.partition("\t")[2])
            values, ties, tokens = part.values, part.ties, part.n_tokens
            if not has.all():
                values, ties, tokens = values[has], ties[has], tokens[has]
            chunk = Chunk(rank_keys(wanted.ranking(values, ties)), ties, tokens.astype(np.int64))
            for interval, tallies in zip(wanted.intervals, of_unit, strict=True):
                tallies.append(tally(interval, chunk))
    return [
        (w.unit, [merge(t, i) for i, t in zip(w.intervals, of_unit, strict=True)])
        for w, of_unit in zip(task.wanted, found, strict=True)
    ]


def _moments(task: _Task) -> _Done:
    sums = {wanted.unit: Moments() for wanted in task.wanted}
    for part in read_values(task.path):
        for unit, ranking, _ in task.wanted:
            has = part.ranked(unit.partition("\t")[2])
            sums[unit] += Moments.of(ranking(part.values[has], part.ties[has]))
    return list(sums.items())
