"""Retention: the records that a token budget keeps, by the same rules for every method.

- The budget is a share of all valid tokens, or a count. Scope `global` is one pool; `group` and `source` split the
  budget over groups or sources in proportion to their valid tokens (ours). Records compete within their pool.
- A source whose every slot is masked is a pool of its own with its share of the budget (`masked_source: random`).
- Within a pool records rank by value, ties by a hash of (seed, source, id). With `fit: prefix` the kept set is a prefix
  of that ranking: it ends before the first record that does not fit. With `fit: skip` such records are passed over: a
  record is kept if it fits into the budget that is left, without the tokens that other sources' floors still need.
- `source_min` and `source_max` bound what a source keeps, each to within one record: where the pool's cutoff would
  give a source less or more, it has a cutoff of its own and the pool's cutoff moves.
- Tokens that a pool cannot fill (too few of its records are ranked) go to the other pools.
- DataMan's budget is split over the domains of each pool, too: then a (source, domain) has a cutoff of its own.
- With `length: residual` records rank by their value less what length predicts of it within their source. With
  `strata` each source keeps as many tokens as without it, and each stratum of its lengths the same share (see
  `yardstick/length.py`). Neither applies to masked sources, whose order is random.
- With a temperature T the ranking is by z + T * g: z is the value standardised within its pool (ours), g a Gumbel
  draw from the id's hash (QuRating, arXiv 2402.09739).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mira.arrays import Words
from mira.config.settings import SelectSettings
from mira.errors import BudgetError, ConfigError
from mira.selection.budget import Share, split
from mira.selection.cuts import ALL, NOTHING, Cutoff, Found, Problem, Steps, Sweep, find_cutoffs
from mira.selection.exact_moments import Moments
from mira.selection.ordering import value_of_key
from mira.selection.sweeps import AS_IT_IS, MapShards, Ranking, Sweeps
from mira.selection.units import Unit
from mira.selection.values import Summary
from mira.selection.yardstick.length import NO_FIT, LengthFit, LengthSums

__all__ = ["Pool", "Retention", "SourceRule", "retain"]


@dataclass(frozen=True)
class Pool:
    """Records that compete, and their cutoff.

    Attributes:
        key: "global", a group, a source, or "<source> (masked)".
        units: Its sources, or strata of sources.
        budget: Tokens it may keep.
        ranking: Its ranking.
        cutoff: The last record kept of sources without a floor or cap in effect.
        fits: Source -> what length predicts of its values, where that is taken away.
    """

    key: str
    units: tuple[Unit, ...]
    budget: int
    ranking: Ranking = AS_IT_IS
    cutoff: Cutoff = ALL
    fits: Mapping[str, LengthFit] = field(default_factory=dict)

    def ranking_of(self, unit: Unit) -> Ranking:
        """Return the ranking of a unit's records."""
        fit = self.fits.get(unit.source, NO_FIT)
        return replace(self.ranking, fit=fit) if fit != NO_FIT else self.ranking


@dataclass(frozen=True)
class SourceRule:
    """The rule that keeps records of one source or stratum.

    Attributes:
        unit: The source or stratum.
        pool: Its pool.
        cutoff: The pool's cutoff, moved by the source's floor or cap.
        steps: The steps, if records that do not fit are passed over; `cutoff` is then the first step's.
    """

    unit: Unit
    pool: Pool
    cutoff: Cutoff
    steps: Steps | None = None

    @property
    def ranking(self) -> Ranking:
        """The ranking of its records."""
        return self.pool.ranking_of(self.unit)

    def keeps(self, keys: Words, ties: Words, n_tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Return a mask of the ranked records that are kept."""
        return self.cutoff.keeps(keys, ties) if self.steps is None else self.steps.keeps(keys, ties, n_tokens)


@dataclass(frozen=True)
class Retention:
    """Pools, cutoffs and rules under a budget.

    Attributes:
        budget: Tokens asked for.
        pools: The pools by key.
        rules: The rule of each unit. Units of which nothing competes are missing.
        notes: Notes for the user (floors that a source cannot fill, a budget above the ranked tokens).
    """

    budget: int
    pools: Mapping[str, Pool]
    rules: Mapping[Unit, SourceRule]
    notes: tuple[str, ...]

    def of_source(self, source: str) -> list[SourceRule]:
        """Return the rules of a source: one, or one per stratum; none if nothing of it competes."""
        return [rule for unit, rule in self.rules.items() if unit.source == source]


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


def retain(
    settings: SelectSettings,
    summaries: Sequence[Summary],
    group_of: Mapping[str, str],
    paths: Mapping[str, Sequence[Path]],
    map_shards: MapShards,
    *,
    to_median: bool = False,
    sweeps: Sweeps | None = None,
) -> Retention:
    """Find the cutoffs of every source.

    Args:
        settings: Budget, scope, floors, caps, temperature.
        summaries: One per shard, in any order.
        group_of: Source -> group; read if the scope is `group`.
        paths: Source -> the files of its values.
        map_shards: Runs the sweeps over these files.
        to_median: Rank by the distance to the pool's median (by tokens), the nearest first.
        sweeps: Reads these files; for callers that read them more than once.

    Raises:
        BudgetError: Budget, floors and caps contradict each other.
        ConfigError: A floor or cap names an unknown source, or meets a method with strata.
    """
    notes: list[str] = []
    bounds = _bounds(settings, summaries, notes)
    keys = _pool_keys(settings, summaries, group_of)
    total = sum(s.tokens for s in summaries)
    budget = settings.budget.of(total)
    parts = _split(budget, bounds, keys, settings.scope, notes)
    members: dict[str, list[Unit]] = {}
    for unit in sorted(keys):
        members.setdefault(keys[unit], []).append(unit)
    pools = [Pool(key, tuple(units), parts[key]) for key, units in sorted(members.items())]
    sweeps = sweeps or Sweeps(paths, sum(s.ranked_records for s in summaries), map_shards)
    masked = {summary.source for summary in summaries if summary.masked}
    if settings.length.control == "residual":
        pools = _without_length(pools, masked, sweeps)
    if to_median:
        halves = [sum(bounds[unit].ranked for unit in pool.units) // 2 for pool in pools]
        problems = [Problem(pool.units, half) for pool, half in zip(pools, halves, strict=True)]
        found = find_cutoffs(problems, sweeps.tallies(_rankings(pools)))
        medians = [value_of_key(max(median.cutoff.value, 0)) for median in found]
        pools = [replace(pool, ranking=Ranking(median)) for pool, median in zip(pools, medians, strict=True)]
    if settings.temperature:
        pools = _noisy(pools, settings.temperature, sweeps)
    settled, rules = _cut(pools, bounds, sweeps.tallies(_rankings(pools)), skip=settings.fit == "skip")
    if settings.length.control == "strata":
        rules = _stratified(rules, masked, settings.length.strata, sweeps, skip=settings.fit == "skip")
    return Retention(budget, settled, rules, tuple(notes))


def _rankings(pools: Sequence[Pool]) -> dict[Unit, Ranking]:
    return {unit: pool.ranking_of(unit) for pool in pools for unit in pool.units}


def _bounds(settings: SelectSettings, summaries: Sequence[Summary], notes: list[str]) -> dict[Unit, _Bounds]:
    names = sorted({s.source for s in summaries})
    for setting, given in (("source_min", settings.source_min), ("source_max", settings.source_max)):
        for name in given:
            if name not in names:
                near = get_close_matches(name, names, 1)
                raise ConfigError(
                    f"select.{setting}: there is no source '{name}'",
                    f"Did you mean '{near[0]}'?" if near else f"Sources are {', '.join(names)}.",
                )
    bounds: dict[Unit, _Bounds] = {}
    for name in names:
        parts = [s for s in summaries if s.source == name]
        if not any(part.strata for part in parts):
            bounds[Unit(name)] = _source_bounds(settings, name, parts, notes)
        elif name in settings.source_min or name in settings.source_max:
            raise ConfigError(
                f"select.source_min, source_max: source '{name}' is split by domain, and has no one cutoff to move",
                "Set select.dataman.by_domain: false, or take the bound away.",
            )
        else:
            bounds |= _strata_bounds(name, parts)
    return bounds


def _strata_bounds(source: str, parts: Sequence[Summary]) -> dict[Unit, _Bounds]:
    bounds: dict[Unit, _Bounds] = {}
    for part in parts:
        for stratum, (tokens, ranked) in part.strata.items():
            before = bounds.get(Unit(source, stratum), _Bounds(0, 0, 0, None))
            bounds[Unit(source, stratum)] = _Bounds(before.valid + tokens, before.ranked + ranked, 0, None)
    return bounds


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


def _pool_keys(settings: SelectSettings, summaries: Sequence[Summary], group_of: Mapping[str, str]) -> dict[Unit, str]:
    """Return the pool of each unit of which anything competes."""
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
            keys[Unit(summary.source)] = key
        for stratum, (_, ranked) in summary.strata.items():
            if ranked:
                keys[Unit(summary.source, stratum)] = f"{key}: {stratum}"
    return keys


def _split(
    budget: int, bounds: Mapping[Unit, _Bounds], keys: Mapping[Unit, str], scope: str, notes: list[str]
) -> dict[str, int]:
    """Return pool -> tokens that it may keep."""
    ranked = sum(bounds[unit].ranked for unit in keys)
    if budget > ranked:
        notes.append(f"the budget of {budget:,} tokens holds all {ranked:,} tokens that are ranked")
    shares: dict[str, Share] = {}
    for unit, key in sorted(keys.items()):
        b, before = bounds[unit], shares.get(key, Share(0, 0, 0))
        shares[key] = Share(before.weight + b.valid, before.least + b.floor, before.most + b.most)
    most = sum(share.most for share in shares.values())
    wanted = min(budget, ranked)
    if 0 < wanted - most <= len(keys):  # caps written as shares are rounded down, one token a source per source at most
        wanted = most
    return split(wanted, shares, f"select with scope {scope}")


def _without_length(pools: Sequence[Pool], masked: Collection[str], sweeps: Sweeps) -> list[Pool]:
    """Take away what length predicts of each source's values; those of masked sources are random."""
    sums: dict[str, LengthSums] = {}
    for unit, found in sweeps.length_sums(_rankings(pools)).items():
        if unit.source not in masked:
            sums[unit.source] = sums.get(unit.source, LengthSums()) + found
    fits = {source: found.fit for source, found in sums.items()}
    return [replace(pool, fits={u.source: fits[u.source] for u in pool.units if u.source in fits}) for pool in pools]


def _stratified(
    rules: Mapping[Unit, SourceRule], masked: Collection[str], most: int, sweeps: Sweeps, *, skip: bool
) -> dict[Unit, SourceRule]:
    """Split what each source keeps over strata of its lengths, in proportion to their tokens."""
    cut = {unit: rule for unit, rule in rules.items() if unit.source not in masked}
    if any(unit.stratum for unit in cut):
        raise ConfigError(
            "select.length.control: strata: the method splits its budget by domain already",
            "Set select.length.control: residual, or select.dataman.by_domain: false.",
        )
    rankings = {unit: rule.ranking for unit, rule in cut.items()}
    kept = sweeps.tokens_kept(rankings, {unit: rule.keeps for unit, rule in cut.items()})
    problems: list[Problem] = []
    for unit, lengths in sweeps.lengths(rankings).items():
        strata = {part: Share(tokens, 0, tokens) for part, tokens in lengths.strata(unit, most)}
        shares = split(kept[unit], {str(part): share for part, share in strata.items()}, f"strata of {unit}")
        problems += [Problem((part,), shares[str(part)], skip=skip) for part in strata]
    of_part = {problem.units[0]: rankings[problem.units[0].whole] for problem in problems}
    found = {unit: rule for unit, rule in rules.items() if unit not in cut}
    for problem, settled in zip(problems, find_cutoffs(problems, sweeps.tallies(of_part)), strict=True):
        (part,) = problem.units
        steps = settled.units[part] if settled.units is not None else None
        pool = replace(cut[part.whole].pool, units=(part,), budget=problem.budget, cutoff=settled.cutoff)
        found[part] = SourceRule(part, pool, settled.cutoff if steps is None else steps.cutoff, steps)
    return found


def _noisy(pools: Sequence[Pool], temperature: float, sweeps: Sweeps) -> list[Pool]:
    sums = sweeps.moments(_rankings(pools))
    noisy = []
    for pool in pools:
        moments = sum((sums[unit] for unit in pool.units if unit in sums), Moments())
        ranking = replace(pool.ranking, temperature=temperature, mean=moments.mean, deviation=moments.deviation)
        noisy.append(replace(pool, ranking=ranking))
    return noisy


def _cut(
    pools: Sequence[Pool], bounds: Mapping[Unit, _Bounds], sweep: Sweep, *, skip: bool
) -> tuple[dict[str, Pool], dict[Unit, SourceRule]]:
    floors, caps = _limits(pools, bounds, sweep, skip=skip)
    problems = [
        Problem(p.units, p.budget, {u: (floors[u].tokens, caps[u].tokens) for u in p.units if u in floors}, skip)
        for p in pools
    ]
    settled, rules = {}, {}
    for unsettled, found in zip(pools, find_cutoffs(problems, sweep), strict=True):
        pool = settled[unsettled.key] = replace(unsettled, cutoff=found.cutoff)
        for unit in pool.units:
            if found.units is not None:
                rules[unit] = SourceRule(unit, pool, found.units[unit].cutoff, found.units[unit])
                continue
            floor = floors[unit].cutoff if unit in floors else NOTHING
            cap = caps[unit].cutoff if unit in caps else ALL
            rules[unit] = SourceRule(unit, pool, min(max(pool.cutoff, floor), cap))
    return settled, rules


def _limits(
    pools: Sequence[Pool], bounds: Mapping[Unit, _Bounds], sweep: Sweep, *, skip: bool
) -> tuple[dict[Unit, Found], dict[Unit, Found]]:
    """Find the cutoffs at floor and cap of every bounded source that shares its pool."""
    shared = [unit for pool in pools if len(pool.units) > 1 for unit in pool.units]
    bounded = [unit for unit in shared if bounds[unit].floor or bounds[unit].cap is not None]
    floors = [Problem((unit,), bounds[unit].floor, skip=skip) for unit in bounded]
    caps = [Problem((unit,), bounds[unit].most) for unit in bounded]
    if skip:
        found = find_cutoffs(floors, sweep)
        return dict(zip(bounded, found, strict=True)), {unit: Found(ALL, bounds[unit].most) for unit in bounded}
    found = find_cutoffs([*floors, *caps], sweep)
    at_floors, at_caps = found[: len(bounded)], found[len(bounded) :]
    return dict(zip(bounded, at_floors, strict=True)), dict(zip(bounded, at_caps, strict=True))
