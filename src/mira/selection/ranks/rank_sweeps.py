"""Sweeps over rank files: the first one reads their ends alone, later ones the rows of a narrow interval.

This holds where records rank by their values as they are. A temperature, a median, a fit of length and strata need
every record: then the rank files are read as files of values are.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mira.selection.cuts import NOTHING, Chunk, Interval, Sweep, Tally, merge, tally
from mira.selection.ranks.rank_file import Head, read_ranks, read_rows
from mira.selection.sweeps import AS_IT_IS, MapShards, Ranking, Sweeps
from mira.selection.units import Unit

__all__ = ["RankSweeps"]


class _Task(NamedTuple):
    """One rank file, its unit, and the intervals to tally."""

    path: Path
    unit: Unit
    intervals: Sequence[Interval]


class RankSweeps(Sweeps):
    """Reads rank files.

    Args:
        paths: Source -> its rank files.
        heads: Source -> what their ends tell, added up.
        map_shards: Runs a function over the files.
    """

    def __init__(
        self, paths: Mapping[str, Sequence[Path]], heads: Mapping[str, Head], map_shards: MapShards, records: int
    ) -> None:
        super().__init__(paths, records, map_shards, read=read_ranks)
        self._heads = heads

    def tallies(self, rankings: Mapping[Unit, Ranking]) -> Sweep:
        """Return the sweep that tallies the intervals of units under these rankings."""
        plain = all(ranking == AS_IT_IS and unit == Unit(unit.source) for unit, ranking in rankings.items())
        return self._narrow if plain else super().tallies(rankings)

    def _narrow(self, wanted: Mapping[Unit, Sequence[Interval]]) -> Iterable[tuple[Unit, Sequence[Tally]]]:
        tasks: list[_Task] = []
        places: dict[Unit, list[int]] = {}
        for unit, intervals in wanted.items():
            head = self._heads[unit.source]
            yield unit, [head.bins if _is_told(interval, head) else merge([], interval) for interval in intervals]
            places[unit] = [at for at, interval in enumerate(intervals) if not _is_told(interval, head)]
            asked = [intervals[at] for at in places[unit]]
            tasks += [_Task(path, unit, asked) for path in self._paths[unit.source] if asked]
        for unit, found in self._map(_tally_rows, tasks):
            tallies = [merge([], interval) for interval in wanted[unit]]
            for at, part in zip(places[unit], found, strict=True):
                tallies[at] = part
            yield unit, tallies


def _is_told(interval: Interval, head: Head) -> bool:
    """Return whether the bins of the first sweep answer: all records count, up to the longest."""
    return interval == Interval(most=interval.most) and interval.most >= head.longest


def _tally_rows(task: _Task) -> tuple[Unit, list[Tally]]:
    found: list[list[Tally]] = [[] for _ in task.intervals]
    for keys, ties, tokens in read_rows(task.path, [_range(interval) for interval in task.intervals]):
        for interval, parts in zip(task.intervals, found, strict=True):
            parts.append(tally(interval, Chunk(keys, ties, tokens)))
    return task.unit, [merge(parts, interval) for parts, interval in zip(found, task.intervals, strict=True)]


def _range(interval: Interval) -> tuple[int, int]:
    """Return the first and last key of the records that an interval is about."""
    if interval.word == "tie":
        return interval.value, interval.value
    after = interval.after.value if interval.after != NOTHING else 0
    return max(interval.low, after), interval.high
