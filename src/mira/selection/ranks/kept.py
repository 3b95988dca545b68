"""The tokens that a plan keeps, from rank files: whole bins above the cutoff, and the rows of the bin that it is in."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mira.selection.cuts import ALL, NOTHING, Cutoff, Interval
from mira.selection.map_shards import map_shards
from mira.selection.planning import Plan
from mira.selection.ranks.rank_file import ranks_path, read_rows
from mira.selection.sweeps import AS_IT_IS
from mira.selection.units import Unit
from mira.selection.values import SelectionInputs
from mira.selection.write import Rule

__all__ = ["kept_below"]

_SHIFT = Interval().shift


class _Task(NamedTuple):
    """One rank file, and the cutoff in it."""

    source: str
    path: Path
    cutoff: Cutoff


def kept_below(inputs: SelectionInputs, plan: Plan) -> dict[str, int]:
    """Return source -> the tokens that a plan from rank files keeps.

    Sources whose rule is not one cutoff on the values as they are, are left out; so is every source of another plan.
    """
    kept: dict[str, int] = {}
    tasks: list[_Task] = []
    for source, head in plan.heads.items():
        rule = plan.rule(source)
        cutoff = _cutoff(source, rule)
        if cutoff is None:
            continue
        within = cutoff.value >> _SHIFT
        above = head.bins.bins < np.uint64(max(within, 0)) if cutoff != ALL else np.ones(len(head.bins.bins), bool)
        kept[source] = int(head.bins.tokens[above].sum()) if cutoff != NOTHING else 0
        if cutoff not in (ALL, NOTHING) and np.uint64(within) in head.bins.bins:
            tasks += [
                _Task(source, ranks_path(inputs.run, plan.folder, source, shard.name), cutoff)
                for shard in plan.shards[source]
            ]
    for source, tokens in map_shards(inputs.score, _within, tasks):
        kept[source] += tokens
    return kept


def _cutoff(source: str, rule: Rule) -> Cutoff | None:
    if not rule.parts:
        return NOTHING
    part = rule.parts[0]
    whole = len(rule.parts) == 1 and part.unit == Unit(source) and part.steps is None
    return part.cutoff if whole and part.ranking == AS_IT_IS else None


def _within(task: _Task) -> tuple[str, int]:
    """Return the tokens that are kept in the cutoff's bin."""
    first = task.cutoff.value >> _SHIFT << _SHIFT
    kept = 0
    for keys, ties, tokens in read_rows(task.path, [(first, task.cutoff.value)]):
        inside = (keys >= np.uint64(first)) & task.cutoff.keeps(keys, ties)
        kept += int(tokens[inside].sum())
    return task.source, kept
