"""A plan from rank files: the cutoffs of all shards, from what workers left of each."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mira.corpus import Shard, shards
from mira.errors import ConfigError, RunError
from mira.run_folder.ranged import several
from mira.selection.map_shards import map_shards
from mira.selection.methods.method import find_method
from mira.selection.planning import Plan, in_effect, read_groups, rows_of
from mira.selection.ranks.rank_file import Head, RankTask, check_ranks, make_ranks, merged_heads, ranks_path
from mira.selection.ranks.rank_sweeps import RankSweeps
from mira.selection.retention import retain
from mira.selection.values import SelectionInputs, SelectionMethod, Summary, ValueTask

__all__ = ["rank_task", "rank_tasks", "refuse_alone", "shared_plan", "why_alone"]

_TOGETHER = 64  # rank files whose ends are read and added up in one go
_ROWS_OF_AN_END = 10  # what reading an end costs, in rows of text: from 20,000 on, processes are worth their start


def why_alone(inputs: SelectionInputs) -> str:
    """Return why workers cannot do the selection shard by shard; "" if they can."""
    return _why_together(inputs) or find_method(inputs.select.method).alone(inputs.select)


def _why_together(inputs: SelectionInputs) -> str:
    """Return why a shard's records that compete follow from all shards, even if one machine has the method ready."""
    if inputs.select.gates:
        return "select.gates have floors that follow from all shards"
    return "flags.duplicates: drop keeps the best copy among all shards" if inputs.flags.duplicates == "drop" else ""


def refuse_alone(inputs: SelectionInputs) -> None:
    """Refuse a selection that workers cannot do.

    Raises:
        ConfigError: It is one; says why, and what to type.
    """
    if why := why_alone(inputs):
        on_cluster = "" if _why_together(inputs) else " With score.engine: ray, its shards run on the cluster."
        raise ConfigError(
            f"workers cannot do this selection shard by shard: {why}",
            f"Run `mira select CONFIG` once instead.{on_cluster}",
        )


def rank_task(inputs: SelectionInputs, method: SelectionMethod, shard: Shard) -> RankTask:
    """Return what it takes to make a shard's rank file."""
    value = ValueTask(inputs.run, method, shard, method.name, inputs.seed, inputs.flags)
    return RankTask(ranks_path(inputs.run, method.name, shard.source, shard.name), inputs.corpus, value)


def rank_tasks(
    inputs: SelectionInputs, method: SelectionMethod, of_source: Mapping[str, Sequence[Shard]]
) -> list[RankTask]:
    """Return these tasks of all shards."""
    return [rank_task(inputs, method, shard) for parts in of_source.values() for shard in parts]


def shared_plan(inputs: SelectionInputs, method: SelectionMethod, *, make_missing: bool = True) -> Plan | None:
    """Rank every record by `method` and find the cutoffs from the rank files that workers left.

    Args:
        inputs: What the selection is made from.
        method: The method.
        make_missing: Make rank files that are missing or out of date, unless most are and the values are wanted on
            this machine.

    Returns:
        The plan; None if it takes values on this machine: workers left no rank files of the method, or most are out of
        date. Where shards run on machines that share the run's URL alone, rank files are all that they can leave.

    Raises:
        RunError: Rank files are missing and are not to be made, or cannot be; or an earlier stage's output is missing.
        ConfigError: A floor or cap names an unknown source.
        BudgetError: Budget, floors and caps contradict each other.
    """
    run = inputs.run
    if make_missing and _is_local(inputs, method):
        return None
    of_source = shards(inputs.corpus)
    tasks = rank_tasks(inputs, method, of_source)
    summaries, heads, missing = _read(inputs, tasks)
    if missing and not make_missing:
        raise RunError(
            f"{len(missing):,} of {len(tasks):,} shards have no values yet",
            "Run `mira work CONFIG --stage values` for all shards first.",
        )
    if 2 * len(missing) > len(tasks) and not inputs.far:
        return None
    if missing:
        with inputs.log.task(f"select: {method.name} values", len(missing)) as task:
            texts = rows_of(run, of_source) if method.reads_text else 0
            for _ in map_shards(inputs.score, make_ranks, missing, rows=texts):
                task.advance()
        summaries, heads, missing = _read(inputs, tasks)
        if missing:
            raise RunError(
                f"{missing[0].value.shard.path}: scores change while values are made of them",
                "Run again when nothing else works in the run folder.",
            )
    settings = in_effect(inputs.select, method)
    group_of = read_groups(run, list(of_source), needed=settings.scope == "group")
    paths = {s: [ranks_path(run, method.name, s, shard.name) for shard in parts] for s, parts in of_source.items()}
    mapped = partial(map_shards, inputs.score)
    sweeps = RankSweeps(paths, heads, mapped, sum(s.ranked_records for s in summaries))
    retention = retain(settings, summaries, group_of, paths, mapped, to_median=method.to_median, sweeps=sweeps)
    return Plan(settings, method, of_source, summaries, retention, group_of, (), method.name, heads)


def _is_local(inputs: SelectionInputs, method: SelectionMethod) -> bool:
    """Return whether values are ranked on this machine, without rank files."""
    if inputs.far:
        return bool(_why_together(inputs))
    return bool(why_alone(inputs)) or not (inputs.run.path / "ranks" / method.name).is_dir()


class _Ends(NamedTuple):
    """What the ends of some rank files of one source tell."""

    source: str
    summaries: Sequence[Summary | None]
    head: Head


def _read(inputs: SelectionInputs, tasks: Sequence[RankTask]) -> tuple[list[Summary], dict[str, Head], list[RankTask]]:
    """Return summaries, each source's head, and the tasks whose rank file is missing or out of date."""
    groups = list(_groups(tasks))
    heads: dict[str, list[Head]] = {}
    found: dict[tuple[str, str], Summary] = {}
    rows = _ROWS_OF_AN_END * len(tasks)
    for ends in map_shards(inputs.score, _read_ends, groups, rows=rows):
        parts = heads.setdefault(ends.source, [])
        parts.append(ends.head)
        if len(parts) > 16:
            heads[ends.source] = [merged_heads(parts)]
        found |= {(s.source, s.shard): s for s in ends.summaries if s is not None}
    missing = [task for task in tasks if (task.value.shard.source, task.value.shard.name) not in found]
    summaries = [found[key] for key in sorted(found)]
    return summaries, {source: merged_heads(parts) for source, parts in heads.items()}, missing


def _groups(tasks: Sequence[RankTask]) -> Iterator[Sequence[RankTask]]:
    of_source: dict[str, list[RankTask]] = {}
    for task in tasks:
        of_source.setdefault(task.value.shard.source, []).append(task)
    for own in of_source.values():
        yield from (own[at : at + _TOGETHER] for at in range(0, len(own), _TOGETHER))


def _read_ends(tasks: Sequence[RankTask]) -> _Ends:
    found = several(check_ranks, tasks, tasks[0].path)
    head = merged_heads([one[1] for one in found if one is not None])
    return _Ends(tasks[0].value.shard.source, [one and one[0] for one in found], head)
