"""Sweeps over rank files: the first one reads their ends alone, later ones the rows of a narrow interval.

This holds where records rank by their values as they are. A temperature, a median, a fit of length and strata need
every record: then the rank files are read as files of values are.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from mira.run_folder.ranged import several
from mira.selection.cuts import NOTHING, Chunk, Interval, Sweep, Tally, merge, tally
from mira.selection.ranks.rank_file import Head, read_ranks, read_rows
from mira.selection.sweeps import AS_IT_IS, MapShards, Ranking, Sweeps
from mira.selection.units import Unit

__all__ = ["RankSweeps"]


_SHIFT = Interval().shift
_HELD = 2_000_000  # rows that are kept between sweeps, 24 bytes each
_TOGETHER = 64  # files that are read in one go
_EMPTY = Chunk(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


Item = TypeVar("Item")


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
        self._held: dict[str, _Held] = {}

    def tallies(self, rankings: Mapping[Unit, Ranking]) -> Sweep:
        """Return the sweep that tallies the intervals of units under these rankings."""
        plain = all(ranking == AS_IT_IS and unit == Unit(unit.source) for unit, ranking in rankings.items())
        return self._narrow if plain else super().tallies(rankings)

    def _narrow(self, wanted: Mapping[Unit, Sequence[Interval]]) -> Iterable[tuple[Unit, Sequence[Tally]]]:
        places: dict[Unit, list[int]] = {}
        asked: dict[Unit, list[Interval]] = {}
        for unit, intervals in wanted.items():
            head = self._heads[unit.source]
            yield unit, [head.bins if _is_told(interval, head) else merge([], interval) for interval in intervals]
            places[unit] = [at for at, interval in enumerate(intervals) if not _is_told(interval, head)]
            if places[unit]:
                asked[unit] = [intervals[at] for at in places[unit]]
        self._hold({unit.source: intervals for unit, intervals in asked.items()})
        groups: list[list[_Task]] = []
        for unit, intervals in asked.items():
            held = self._held.get(unit.source)
            if held is not None and held.covers(intervals):
                found = [tally(interval, held.rows) for interval in intervals]
                yield unit, _spread(wanted[unit], places[unit], found)
            else:
                groups += _in_groups([_Task(path, unit, intervals) for path in self._paths[unit.source]])
        for part in self._map(_tally_rows, groups):
            for unit, found in part:
                yield unit, _spread(wanted[unit], places[unit], found)

    def _hold(self, asked: Mapping[str, Sequence[Interval]]) -> None:
        """Read the rows that some intervals are about, if they are few: further sweeps read no file."""
        groups: list[list[_Wanted]] = []
        n = sum(len(held.rows.keys) for held in self._held.values())
        for source, intervals in asked.items():
            if source in self._held and self._held[source].covers(intervals):
                continue
            low, high = (key >> _SHIFT for key in _whole(intervals))
            bins = self._heads[source].bins
            n += int(bins.records[(bins.bins >= np.uint64(low)) & (bins.bins <= np.uint64(high))].sum())
            if n > _HELD:
                return
            self._held.pop(source, None)
            first, last = low << _SHIFT, ((high + 1) << _SHIFT) - 1
            groups += _in_groups([_Wanted(source, path, first, last) for path in self._paths[source]])
        parts: dict[_Wanted, list[Chunk]] = {}
        for wanted, rows in self._map(_rows_within, groups):
            parts.setdefault(wanted._replace(path=Path()), []).append(rows)
        for wanted, chunks in parts.items():
            self._held[wanted.source] = _Held(wanted.first, wanted.last, _joined(chunks))


class _Held(NamedTuple):
    """All rows of a source with keys from `first` to `last`."""

    first: int
    last: int
    rows: Chunk

    def covers(self, intervals: Sequence[Interval]) -> bool:
        """Return whether all that some intervals are about is here."""
        first, last = _whole(intervals)
        return self.first <= first and last <= self.last


class _Wanted(NamedTuple):
    """A rank file, and the first and last key of the rows that are wanted of it."""

    source: str
    path: Path
    first: int
    last: int


def _in_groups(tasks: list[Item]) -> list[list[Item]]:
    """Return tasks in groups: most files give a few rows, and to pass them on one by one takes longer than to read."""
    return [tasks[at : at + _TOGETHER] for at in range(0, len(tasks), _TOGETHER)]


def _whole(intervals: Sequence[Interval]) -> tuple[int, int]:
    """Return the first and last key that any of some intervals is about."""
    ranges = [_range(interval) for interval in intervals]
    return min(first for first, _ in ranges), max(last for _, last in ranges)


def _rows_within(group: Sequence[_Wanted]) -> tuple[_Wanted, Chunk]:
    """Return the rows of some files of one source."""

    def rows(wanted: _Wanted) -> Chunk:
        parts = []
        for keys, ties, tokens in read_rows(wanted.path, [(wanted.first, wanted.last)]):
            inside = (keys >= np.uint64(wanted.first)) & (keys <= np.uint64(wanted.last))
            parts.append(Chunk(keys[inside], ties[inside], tokens[inside]))
        return _joined(parts)

    return group[0], _joined(several(rows, group, group[0].path))


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    keys, ties, tokens = (np.concatenate(column) for column in zip(_EMPTY, *chunks, strict=True))
    return Chunk(keys, ties, tokens)


def _spread(intervals: Sequence[Interval], places: Sequence[int], found: Sequence[Tally]) -> list[Tally]:
    """Return one tally per interval: those found in their places, and empty ones."""
    tallies = [merge([], interval) for interval in intervals]
    for at, part in zip(places, found, strict=True):
        tallies[at] = part
    return tallies


def _is_told(interval: Interval, head: Head) -> bool:
    """Return whether the bins of the first sweep answer: all records count, up to the longest."""
    return interval == Interval(most=interval.most) and interval.most >= head.longest


def _tally_rows(group: Sequence[_Task]) -> list[tuple[Unit, list[Tally]]]:
    return several(_tally_file, group, group[0].path)


def _tally_file(task: _Task) -> tuple[Unit, list[Tally]]:
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
