"""A finished selection under other budgets: the numbers that `mira select` would write, with nothing written.

The values that the selection was made from are in `values/`. They do not depend on the budget, so that the cutoffs of
any other budget follow from them by the same code. A rehearsal is only given if it finds the cutoffs of the written
selection again; settings that have changed since would otherwise give numbers of another selection.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import SelectSettings
from mira.config.tokens import Tokens
from mira.corpus import Shard
from mira.errors import ConfigError, RunError
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.selection.competing.gates import Gate, find_gates
from mira.selection.cuts import Cutoff, Problem, find_cutoffs
from mira.selection.methods.method import BaseMethod, load_method
from mira.selection.planning import Plan, in_effect, read_groups, threshold_of
from mira.selection.retention import Pool, Retention, retain
from mira.selection.sweeps import KeptCount, Sweeps
from mira.selection.thresholds import place, tie_hash
from mira.selection.units import Unit
from mira.selection.values import SelectionInputs, SelectionMethod, Summary, gated, of_all, values_path

__all__ = ["Near", "Rehearsal", "Rehearsed", "ScopeFigures", "SourceFigures", "written_inputs"]

_IN_MEMORY = 20_000_000  # ranked records whose values stay in memory, 24 bytes each


@dataclass(frozen=True, slots=True)
class ScopeFigures:
    """What a scope would keep; names are those of thresholds.json."""

    key: str
    sources: tuple[str, ...]
    threshold: float | None
    tie_hash: str | None
    budget_tokens: int
    tokens_in: int
    tokens_kept: int
    records_kept: int


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What a source would keep; names are those of thresholds.json."""

    name: str
    scope: str | None
    threshold: float | None
    tokens_in: int
    tokens_kept: int
    records_in: int
    kept: int


@dataclass(frozen=True, slots=True)
class Near:
    """A record near a scope's cutoff.

    Attributes:
        source: Its source.
        tie: The hash of its id.
        ranked_by: What it ranks by.
        kept: Whether it ranks at or before the cutoff.
    """

    source: str
    tie: int
    ranked_by: float
    kept: bool


@dataclass(frozen=True)
class Rehearsed:
    """A selection under some settings, not written.

    Attributes:
        settings: The settings.
        retention: Pools, cutoffs and rules.
        scopes: By key.
        sources: By name.
    """

    settings: SelectSettings
    retention: Retention
    scopes: Mapping[str, ScopeFigures]
    sources: Mapping[str, SourceFigures]


class Rehearsal:
    """A finished selection, ready to be repeated under other budgets.

    Args:
        inputs: What the selection was made from; see `written_inputs`.
        shards: Source -> its shards.

    Raises:
        RunError: Nothing is selected yet, its values are missing, or the settings or files have changed since.
    """

    def __init__(self, inputs: SelectionInputs, shards: Mapping[str, Sequence[Shard]]) -> None:
        run, select = inputs.run, inputs.select
        self.inputs = inputs
        self.written: Mapping[str, Any] = read_json(run.thresholds)
        self._median = any("median" in scope for scope in self.written["scopes"].values())
        method, drops = _method(inputs), inputs.flags.duplicates == "drop"
        folder = gated(method.name) if select.gates else method.name
        self._summaries = _summaries(run, folder, shards)
        group_of = read_groups(run, list(shards), needed=select.scope == "group")
        self._group_of = group_of
        paths = {s: [values_path(run, folder, s, shard.name) for shard in parts] for s, parts in shards.items()}
        self._paths = paths
        self._sweeps = Sweeps(paths, sum(s.ranked_records for s in self._summaries), _in_order, _IN_MEMORY)
        settings = in_effect(select, method)
        self.total = sum(s.tokens for s in self._summaries)
        written = self.under(settings)
        gates = _gates(inputs, shards, drops=drops)
        given = of_all(method.name) if drops else method.name
        self.plan = Plan(settings, method, shards, self._summaries, written.retention, group_of, gates, given)
        self.as_written = written
        self._check(written)

    def under(self, settings: SelectSettings) -> Rehearsed:
        """Return what a selection under other settings of section `select` would keep.

        Raises:
            BudgetError: Budget, floors and caps contradict each other.
        """
        found = retain(
            settings, self._summaries, self._group_of, self._paths, _in_order,
            to_median=self._median, sweeps=self._sweeps,
        )  # fmt: skip
        rankings = {unit: rule.ranking for unit, rule in found.rules.items()}
        kept = self._sweeps.kept(rankings, {unit: rule.keeps for unit, rule in found.rules.items()})
        sources = {name: self._source(found, kept, name) for name in sorted({s.source for s in self._summaries})}
        scopes = {key: self._scope(settings, pool, kept) for key, pool in found.pools.items()}
        return Rehearsed(settings, found, scopes, sources)

    def with_scopes(self, budget: Tokens, scopes: Mapping[str, Tokens]) -> SelectSettings:
        """Return the settings that give some scopes budgets of their own, and the others what `budget` gives them.

        What each source of such a scope keeps at its cutoff becomes the source's floor and cap.

        Args:
            budget: The budget of all scopes.
            scopes: Scope -> its tokens; a share is of the scope's tokens.

        Raises:
            ConfigError: The selection's rules do not allow it: see `why_one_budget`.
            BudgetError: Budget, floors and caps contradict each other.
        """
        settings = self.plan.settings.model_copy(update={"budget": budget})
        if not scopes:
            return settings
        if why := self.why_one_budget:
            raise ConfigError(why, "Move the slider of the whole budget.")
        pools = retain(
            settings, self._summaries, self._group_of, self._paths, _in_order,
            to_median=self._median, sweeps=self._sweeps,
        ).pools  # fmt: skip
        own = {key: scopes[key].of(self.written["scopes"][key]["tokens_in"]) for key in pools if key in scopes}
        problems = [Problem(pools[key].units, tokens, skip=settings.fit == "skip") for key, tokens in own.items()]
        rankings = {unit: pools[key].ranking_of(unit) for key in own for unit in pools[key].units}
        found = find_cutoffs(problems, self._sweeps.tallies(rankings))
        keeps = {
            unit: cut.units[unit].keeps if cut.units is not None else _UpTo(cut.cutoff)
            for problem, cut in zip(problems, found, strict=True)
            for unit in problem.units
        }
        bounds = {unit.source: Tokens.parse(count.tokens) for unit, count in self._sweeps.kept(rankings, keeps).items()}
        rest = sum(pool.budget for key, pool in pools.items() if key not in own)
        total = rest + sum(tokens.count for tokens in bounds.values())
        return settings.model_copy(
            update={
                "budget": Tokens.parse(max(total, 1)),
                "source_min": {**settings.source_min, **bounds},
                "source_max": {**settings.source_max, **bounds},
            }
        )

    @property
    def why_one_budget(self) -> str:
        """Why scopes cannot have budgets of their own; "" if they can."""
        if any(s.strata for s in self._summaries):
            return "the budget is split by domain, and a domain has no floor or cap"
        if self.inputs.flags.duplicates == "drop":
            return "duplicates are dropped, and which copy stands depends on the caps"
        return "raw keeps everything" if self.plan.method.name == "raw" else ""

    def near(self, found: Rehearsed, key: str, n: int) -> list[Near]:
        """Return the `n` records on each side of the cutoffs of a scope's sources, the best first."""
        rules = [rule for rule in found.retention.rules.values() if rule.pool.key == key]
        near = [
            Near(unit.source, tie, value, before)
            for rule in rules
            for unit, tie, value, before in self._sweeps.nearest({rule.unit: rule.ranking}, rule.cutoff, n)
        ]
        near.sort(key=lambda r: (-r.ranked_by, r.tie))
        above, below = [r for r in near if r.kept], [r for r in near if not r.kept]
        return [*above[-n:], *below[:n]]

    def _source(self, found: Retention, kept: Mapping[Unit, KeptCount], name: str) -> SourceFigures:
        parts = [s for s in self._summaries if s.source == name]
        count = sum((k for unit, k in kept.items() if unit.source == name), KeptCount(0, 0))
        where = place(found.of_source(name))
        return SourceFigures(
            name, where["scope"], where["threshold"],
            tokens_in=sum(p.tokens for p in parts), tokens_kept=count.tokens,
            records_in=sum(p.records for p in parts), kept=count.records,
        )  # fmt: skip

    def _scope(self, settings: SelectSettings, pool: Pool, kept: Mapping[Unit, KeptCount]) -> ScopeFigures:
        count = sum((k for unit, k in kept.items() if unit.whole in pool.units), KeptCount(0, 0))
        strata = settings.length.control == "strata"  # each has a threshold of its own
        return ScopeFigures(
            pool.key, tuple(sorted({unit.source for unit in pool.units})),
            threshold=None if strata else threshold_of(pool.cutoff),
            tie_hash=None if strata else tie_hash(pool.cutoff),
            budget_tokens=pool.budget,
            tokens_in=self.written["scopes"].get(pool.key, {}).get("tokens_in", 0),
            tokens_kept=count.tokens, records_kept=count.records,
        )  # fmt: skip

    def _check(self, again: Rehearsed) -> None:
        scopes = self.written["scopes"]
        names = ("threshold", "tie_hash", "budget_tokens", "tokens_kept", "records_kept")
        same = again.scopes.keys() == scopes.keys() and all(
            getattr(scope, name) == scopes[key][name] for key, scope in again.scopes.items() for name in names
        )
        if not same:
            raise RunError(
                f"{self.inputs.run.thresholds}: the settings or the values have changed since this selection was made",
                "Make it again: mira select CONFIG",
            )


@dataclass(frozen=True)
class _UpTo:
    cutoff: Cutoff

    def __call__(self, keys: Any, ties: Any, _tokens: Any) -> Any:
        return self.cutoff.keeps(keys, ties)


class _Written(BaseMethod):
    """A method of which only the values are read."""

    def __init__(self, name: str, *, judges: bool) -> None:
        self.name, self.has_quality = name, judges


def written_inputs(inputs: SelectionInputs) -> SelectionInputs:
    """Return the inputs with method, scores and budget of the present selection.

    Raises:
        RunError: Nothing is selected yet.
    """
    thresholds = inputs.run.thresholds
    if not thresholds.is_file():
        raise RunError(f"{thresholds} is missing: nothing is selected yet", "Run `mira select` first.")
    written = read_json(thresholds)
    changes: dict[str, Any] = {"method": written["method"]}
    if inputs.select.budget.of(written["tokens_in"]) != written["budget_tokens"]:
        changes["budget"] = Tokens.parse(written["budget_tokens"])
    return replace(inputs, select=inputs.select.model_copy(update=changes))


def _method(inputs: SelectionInputs) -> SelectionMethod:
    name = inputs.select.method
    if name == "mira":
        return load_method(name, inputs)
    method: Any = _Written(name, judges=name not in ("raw", "random"))
    found: SelectionMethod = method
    return found


def _gates(inputs: SelectionInputs, shards: Mapping[str, Sequence[Shard]], *, drops: bool) -> list[Gate]:
    """Find the floors of the gates again, in the values that are there."""
    measured = []
    for gate in inputs.select.gates:
        method: Any = _Written(gate.value, judges=True)
        folder = of_all(gate.value) if drops else gate.value
        measured.append((gate, method, folder, _summaries(inputs.run, folder, shards)))
    return find_gates(inputs, measured, shards)


def _summaries(run: RunFolder, folder: str, shards: Mapping[str, Sequence[Shard]]) -> list[Summary]:
    found = [_summary(run, folder, shard) for parts in shards.values() for shard in parts]
    return sorted(found, key=lambda s: (s.source, s.shard))


def _summary(run: RunFolder, folder: str, shard: Shard) -> Summary:
    path = values_path(run, folder, shard.source, shard.name)
    try:
        return Summary(**orjson.loads((pq.read_metadata(path).metadata or {})[b"mira"]))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        raise RunError(
            f"{path}: the values that the selection was made from are missing or damaged",
            "Make them again: mira select CONFIG",
        ) from None


def _in_order(function: Any, items: Iterable[Any], /) -> Iterable[Any]:
    return map(function, items)
