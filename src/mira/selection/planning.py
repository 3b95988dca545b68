"""Decide a selection: rank every record by a method, and find the cutoffs under the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from mira.config.settings import LengthSettings, SelectSettings
from mira.config.tokens import Tokens
from mira.corpus import Shard, shards
from mira.corpus.index import check_shard
from mira.errors import RunError
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import read_footer
from mira.selection.competing.gates import Gate, GateTask, apply_gates, check_gates, find_gates
from mira.selection.competing.rewrite import CopyTask, without_copies
from mira.selection.competing.standing import find_standing
from mira.selection.cuts import ALL, Cutoff
from mira.selection.map_shards import map_shards
from mira.selection.methods.method import load_method
from mira.selection.ordering import value_of_key
from mira.selection.ranks.rank_file import Head
from mira.selection.retention import Retention, retain
from mira.selection.values import (
    SelectionInputs,
    SelectionMethod,
    Summary,
    ValueTask,
    gated,
    make_values,
    of_all,
    values_path,
)
from mira.selection.write import Rule

__all__ = ["Plan", "in_effect", "make_plan", "read_groups", "rows_of", "threshold_of"]


@dataclass(frozen=True)
class Plan:
    """A selection that is decided but not written.

    Attributes:
        settings: As in effect (`raw` keeps all, so its budget is 100%).
        method: The method.
        shards: Source -> its shards.
        summaries: One per shard.
        retention: Pools, cutoffs, rules.
        group_of: Source -> group; empty if groups.json is missing.
        gates: The gates that records passed to compete.
        ungated: The folder of `values/` with the values of all records, before gates and duplicates.
        heads: Source -> what its rank files tell, where workers ranked the records; else empty.
    """

    settings: SelectSettings
    method: SelectionMethod
    shards: Mapping[str, Sequence[Shard]]
    summaries: Sequence[Summary]
    retention: Retention
    group_of: Mapping[str, str]
    gates: Sequence[Gate] = ()
    ungated: str = ""
    heads: Mapping[str, Head] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The folder of `values/` with the values of the records that compete."""
        return gated(self.method.name) if self.gates else self.method.name

    def rule(self, source: str) -> Rule:
        """Return the rule of a source."""
        return Rule(tuple(self.retention.of_source(source)), self.method.has_quality)


def make_plan(inputs: SelectionInputs, method: SelectionMethod) -> Plan:
    """Rank every record by `method` and find the cutoffs.

    Raises:
        RunError: An earlier stage's output is missing or does not match the corpus, or a shard has changed since it was
            indexed.
        ConfigError: A floor or cap names an unknown source.
        BudgetError: Budget, floors and caps contradict each other.
    """
    run, of_source = inputs.run, shards(inputs.corpus)
    settings = in_effect(inputs.select, method)
    group_of = read_groups(run, list(of_source), needed=settings.scope == "group")
    every = [shard for parts in of_source.values() for shard in parts]
    for shard in every:
        check_shard(inputs.corpus, run, shard)
    drops = inputs.flags.duplicates == "drop"
    given = of_all(method.name) if drops else method.name
    summaries = _values(inputs, method, of_source)
    gates: list[Gate] = []
    if settings.gates:
        gates = _gates(inputs, settings, method, summaries, of_source)
        target = of_all(gated(method.name)) if drops else gated(method.name)
        of_shard = {(s.source, s.shard): s for s in summaries}
        past = [GateTask(run, s, of_shard[s.source, s.name], gates, given, target) for s in every]
        summaries = list(map_shards(inputs.near, apply_gates, past))
    folder = gated(method.name) if gates else method.name
    if drops:
        summaries = _without_copies(inputs, method, folder, settings, every, summaries)
    summaries.sort(key=lambda s: (s.source, s.shard))
    paths = {s: [values_path(run, folder, s, shard.name) for shard in parts] for s, parts in of_source.items()}
    retention = retain(
        settings, summaries, group_of, paths, partial(map_shards, inputs.near), to_median=method.to_median
    )
    return Plan(settings, method, of_source, summaries, retention, group_of, gates, given)


def _values(
    inputs: SelectionInputs, method: SelectionMethod, of_source: Mapping[str, Sequence[Shard]]
) -> list[Summary]:
    """Rank every record by a method, duplicates among them."""
    run = inputs.run
    folder = of_all(method.name) if inputs.flags.duplicates == "drop" else method.name
    every = [shard for parts in of_source.values() for shard in parts]
    tasks = [ValueTask(run, method, shard, folder, inputs.seed, inputs.flags) for shard in every]
    summaries: list[Summary] = []
    with inputs.log.task(f"select: {method.name} values", len(tasks)) as task:
        texts = rows_of(run, of_source) if method.reads_text else 0
        for summary in map_shards(inputs.near, make_values, tasks, rows=texts):
            summaries.append(summary)
            task.advance()
    return summaries


def _gates(
    inputs: SelectionInputs,
    settings: SelectSettings,
    method: SelectionMethod,
    summaries: Sequence[Summary],
    of_source: Mapping[str, Sequence[Shard]],
) -> list[Gate]:
    """Measure what the gates ask for, and find their floors."""
    check_gates(settings.gates, list(of_source))
    measured = []
    for gate in settings.gates:
        other = method if gate.value == method.name else load_method(gate.value, inputs)
        own = list(summaries) if other is method else _values(inputs, other, of_source)
        folder = of_all(other.name) if inputs.flags.duplicates == "drop" else other.name
        measured.append((gate, other, folder, own))
    return find_gates(inputs, measured, of_source)


def _without_copies(
    inputs: SelectionInputs,
    method: SelectionMethod,
    folder: str,
    settings: SelectSettings,
    every: Sequence[Shard],
    summaries: Sequence[Summary],
) -> list[Summary]:
    """Remove the copies that do not stand from the competition."""
    run = inputs.run
    valid: dict[str, int] = {}
    for summary in summaries:
        valid[summary.source] = valid.get(summary.source, 0) + summary.tokens
    caps = {
        source: most.of(valid[source])
        for source, most in settings.source_max.items()
        if source in valid  # an unknown one is refused where budgets are split
    }
    of_shard = {(s.source, s.shard): s for s in summaries}
    values = [(s, values_path(run, of_all(folder), s.source, s.name)) for s in every]
    judges = method.has_quality and not method.to_median
    with find_standing(run, values, caps, judges=judges) as standing:
        tasks = [CopyTask(run, folder, s, of_shard[s.source, s.name], standing.dropped(s)) for s in every]
    return list(map_shards(inputs.near, without_copies, tasks))


def read_groups(run: RunFolder, sources: Sequence[str], *, needed: bool = True) -> dict[str, str]:
    """Return source -> group.

    Args:
        run: The run folder.
        sources: Sources that must have a group.
        needed: Raise if groups are missing; otherwise return those that exist.

    Raises:
        RunError: groups.json is missing, or lacks a source.
    """
    groups = read_json(run.groups)["groups"] if run.groups.is_file() else []
    found = {source: group["name"] for group in groups for source in group["sources"]}
    lacking = [source for source in sources if source not in found]
    if needed and lacking:
        raise RunError(
            f"{run.groups} does not have the sources {', '.join(lacking)}",
            "Run `mira group` first, or select with scope global or source.",
        )
    return found


def in_effect(settings: SelectSettings, method: SelectionMethod) -> SelectSettings:
    """Return the settings that a method obeys: `raw` keeps all, and length explains nothing of a mere order."""
    if not method.has_quality:  # length explains nothing of a mere order
        settings = settings.model_copy(update={"length": LengthSettings()})
    if method.name != "raw":
        return settings
    everything = {
        "budget": Tokens.parse("100%"),
        "scope": "global",
        "source_min": {},
        "source_max": {},
        "temperature": 0.0,
    }
    return settings.model_copy(update=everything)


def rows_of(run: RunFolder, of_source: Mapping[str, Sequence[Shard]]) -> int:
    """Return the rows of all existing index files."""
    files = (run.index(source) / f"{shard.name}.parquet" for source, parts in of_source.items() for shard in parts)
    return sum(read_footer(path).num_rows for path in files if path.is_file())


def threshold_of(cutoff: Cutoff) -> float | None:
    """Return the value at a cutoff; None if it keeps everything or nothing."""
    return None if cutoff == ALL or cutoff.value < 0 else value_of_key(cutoff.value)
