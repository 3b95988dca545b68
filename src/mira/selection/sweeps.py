"""Sweeps over a method's values: tallies for cutoffs, moments for the temperature, sums and counts of lengths.

Small corpora are read once and stay in memory; of larger ones every sweep reads the files of values again.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats, Words
from mira.selection.cuts import Chunk, Counts, Cutoff, Interval, Sweep, Tally, merge, tally
from mira.selection.exact_moments import Moments
from mira.selection.ordering import gumbel, rank_keys, value_of_key
from mira.selection.units import Unit
from mira.selection.value_reader import ValueChunk, read_values
from mira.selection.yardstick.length import NO_FIT, LengthFit, Lengths, LengthSums

__all__ = ["AS_IT_IS", "Keeps", "KeptCount", "MapShards", "Ranking", "Read", "Sweeps"]

_IN_MEMORY = 1_000_000  # ranked records whose values are kept between sweeps, 24 bytes each

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranking:
    """The quantity that records of a pool rank by; the default is their value.

    Attributes:
        median: Rank by the distance to this value, the nearest first.
        temperature: Size of the Gumbel noise that is added to the standardised value.
        mean: Mean of the pool's values (or distances), if there is a temperature.
        deviation: Their standard deviation.
        fit: What length predicts of the source's values; it is taken away first.
        lowest: Rank the lowest values first.
    """

    median: float | None = None
    temperature: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0
    fit: LengthFit = NO_FIT
    lowest: bool = False

    def __call__(self, values: Floats, ties: Words, tokens: npt.NDArray[np.integer]) -> Floats:
        """Return the quantity that records rank by."""
        values = self.fit.rest(-values if self.lowest else values, tokens)
        if self.median is not None:
            values = -np.abs(values - self.median)
        if not self.temperature:
            return values
        z = (values - self.mean) / self.deviation if self.deviation > 0 else np.zeros(len(values))
        return np.asarray(z + self.temperature * gumbel(ties), dtype=np.float64)


AS_IT_IS = Ranking()


class _Rows(NamedTuple):
    """Records of one unit that compete."""

    values: Floats
    ties: Words
    tokens: Counts

    def chunk(self, ranking: Ranking) -> Chunk:
        return Chunk(rank_keys(ranking(*self)), self.ties, self.tokens)

    def within(self, unit: Unit) -> "_Rows":
        """Return the records of a unit's lengths."""
        if unit == unit.whole:
            return self
        inside = (self.tokens >= unit.shortest) & (self.tokens <= unit.longest)
        return _Rows(self.values[inside], self.ties[inside], self.tokens[inside])


Read = Callable[[Path], Iterator[ValueChunk]]
"""Reads the records of a file, those that compete among them."""


class _Task(NamedTuple):
    """One file of values, how it is read, the units to read, their rankings, and the intervals to tally."""

    path: Path
    read: Read
    rankings: Mapping[Unit, Ranking]
    intervals: Mapping[Unit, Sequence[Interval]]


_Tallies = list[tuple[Unit, list[Tally]]]


Keeps = Callable[[Words, Words, npt.NDArray[np.integer]], npt.NDArray[np.bool_]]
"""Keys, ties and tokens of ranked records -> which of them are kept."""


class _Sum(Protocol):
    def __add__(self, other: Self, /) -> Self: ...


Sum = TypeVar("Sum", bound=_Sum)


_Measure = Callable[[Unit, Ranking, _Rows], Sum]


class MapShards(Protocol):
    """Runs a function over items, in any order: threads, processes or Ray."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item], /) -> Iterable[Result]:
        """Return the results as they come."""
        ...


class Sweeps:
    """Reads the values of all records that compete, again and again.

    Args:
        paths: Source -> the files of its values.
        records: How many records compete; few are read once and kept in memory.
        map_shards: Runs a function over the files.
        in_memory: The most records that count as few.
        read: Reads a file.
    """

    def __init__(
        self,
        paths: Mapping[str, Sequence[Path]],
        records: int,
        map_shards: MapShards,
        in_memory: int = _IN_MEMORY,
        read: Read = read_values,
    ) -> None:
        self._paths, self._map, self._read = paths, map_shards, read
        self._small = records <= in_memory
        self._rows: dict[Unit, _Rows] | None = None

    def tallies(self, rankings: Mapping[Unit, Ranking]) -> Sweep:
        """Return the sweep that tallies the intervals of units under these rankings."""
        chunks = {unit: rows.chunk(rankings[unit]) for unit, rows in self._kept(rankings).items()}

        def sweep(wanted: Mapping[Unit, Sequence[Interval]]) -> Iterable[tuple[Unit, Sequence[Tally]]]:
            if self._small:
                for unit, intervals in wanted.items():
                    yield unit, [merge([tally(i, chunks[unit])], i) for i in intervals]
                return
            for part in self._map(_tally_file, self._tasks({unit: rankings[unit] for unit in wanted}, wanted)):
                yield from part

        return sweep

    def moments(self, rankings: Mapping[Unit, Ranking]) -> dict[Unit, Moments]:
        """Return each unit's moments of the quantity that its records rank by."""
        return self._sums(_moments, rankings)

    def length_sums(self, rankings: Mapping[Unit, Ranking]) -> dict[Unit, LengthSums]:
        """Return each unit's sums of lengths and values."""
        return self._sums(_length_sums, rankings)

    def lengths(self, rankings: Mapping[Unit, Ranking]) -> dict[Unit, Lengths]:
        """Return how many records of each length each unit has."""
        return self._sums(_lengths, rankings)

    def tokens_kept(self, rankings: Mapping[Unit, Ranking], keeps: Mapping[Unit, Keeps]) -> dict[Unit, int]:
        """Return the tokens that each unit's rule keeps."""
        return {unit: found.tokens for unit, found in self.kept(rankings, keeps).items()}

    def kept(self, rankings: Mapping[Unit, Ranking], keeps: Mapping[Unit, Keeps]) -> "dict[Unit, KeptCount]":
        """Return the records and tokens that each unit's rule keeps."""
        return self._sums(_Kept(keeps), rankings)

    def nearest(self, rankings: Mapping[Unit, Ranking], cutoff: Cutoff, n: int) -> list[tuple[Unit, int, float, bool]]:
        """Return the `n` records on each side of a cutoff, the best first.

        Returns:
            Unit, tie hash, what it ranks by, and whether it ranks at or before the cutoff.
        """
        parts: Mapping[Unit, list[tuple[int, int, Unit]]] = self._sums(_Nearest(cutoff, n), rankings)
        found = sorted(entry for part in parts.values() for entry in part)
        at = bisect_right(found, tuple(cutoff), key=lambda entry: entry[:2])
        first = max(at - n, 0)
        near = enumerate(found[first : at + n], first)
        return [(unit, tie, value_of_key(key), place < at) for place, (key, tie, unit) in near]

    def _sums(self, measure: _Measure[Sum], rankings: Mapping[Unit, Ranking]) -> dict[Unit, Sum]:
        """Measure each unit: parts of it add up."""
        if self._small:
            return {unit: measure(unit, rankings[unit], rows) for unit, rows in self._kept(rankings).items()}
        sums: dict[Unit, Sum] = {}
        for part in self._map(partial(_measure_file, measure), self._tasks(rankings)):
            for unit, found in part:
                sums[unit] = sums[unit] + found if unit in sums else found
        return sums

    def _kept(self, rankings: Mapping[Unit, Ranking]) -> dict[Unit, _Rows]:
        """Return the rows of small corpora, read once."""
        if not self._small:
            return {}
        if self._rows is None:
            parts: dict[Unit, list[_Rows]] = {unit.whole: [] for unit in rankings}
            for part in self._map(_read_file, self._tasks({unit.whole: r for unit, r in rankings.items()})):
                for unit, rows in part:
                    parts[unit].append(rows)
            self._rows = {unit: _concatenated(of_unit) for unit, of_unit in parts.items()}
        return {unit: self._rows[unit.whole].within(unit) for unit in rankings}

    def _tasks(
        self, rankings: Mapping[Unit, Ranking], intervals: Mapping[Unit, Sequence[Interval]] | None = None
    ) -> list[_Task]:
        by_source: dict[str, dict[Unit, Ranking]] = {}
        for unit, ranking in rankings.items():
            by_source.setdefault(unit.source, {})[unit] = ranking
        return [
            _Task(path, self._read, units, {unit: intervals[unit] for unit in units} if intervals else {})
            for source, units in by_source.items()
            for path in self._paths[source]
        ]


def _concatenated(parts: Sequence[_Rows]) -> _Rows:
    empty = _Rows(np.zeros(0), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    return _Rows(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))


def _rows_of_file(task: _Task) -> Iterator[tuple[Unit, _Rows]]:
    """Yield the competing records of a file's units, a block at a time."""
    for part in task.read(task.path):
        tokens = part.n_tokens.astype(np.int64)
        for unit in task.rankings:
            has = part.ranked(unit)
            yield unit, _Rows(part.values[has], part.ties[has], tokens[has])


def _read_file(task: _Task) -> list[tuple[Unit, _Rows]]:
    return list(_rows_of_file(task))


def _tally_file(task: _Task) -> _Tallies:
    found: dict[Unit, list[list[Tally]]] = {unit: [[] for _ in of_unit] for unit, of_unit in task.intervals.items()}
    for unit, rows in _rows_of_file(task):
        chunk = rows.chunk(task.rankings[unit])
        for interval, tallies in zip(task.intervals[unit], found[unit], strict=True):
            tallies.append(tally(interval, chunk))
    return [
        (unit, [merge(tallies, interval) for interval, tallies in zip(task.intervals[unit], of_unit, strict=True)])
        for unit, of_unit in found.items()
    ]


def _measure_file(measure: _Measure[Sum], task: _Task) -> list[tuple[Unit, Sum]]:
    sums: dict[Unit, Sum] = {}
    for unit, rows in _rows_of_file(task):
        found = measure(unit, task.rankings[unit], rows)
        sums[unit] = sums[unit] + found if unit in sums else found
    return list(sums.items())


def _moments(_unit: Unit, ranking: Ranking, rows: _Rows) -> Moments:
    return Moments.of(ranking(*rows))


def _length_sums(_unit: Unit, _ranking: Ranking, rows: _Rows) -> LengthSums:
    return LengthSums.of(rows.values, rows.tokens)


def _lengths(_unit: Unit, _ranking: Ranking, rows: _Rows) -> Lengths:
    return Lengths.of(rows.tokens)


@dataclass(frozen=True, slots=True)
class KeptCount:
    """Records that are kept, and their tokens."""

    records: int
    tokens: int

    def __add__(self, other: "KeptCount") -> "KeptCount":
        return KeptCount(self.records + other.records, self.tokens + other.tokens)


@dataclass(frozen=True)
class _Kept:
    keeps: Mapping[Unit, Keeps]

    def __call__(self, unit: Unit, ranking: Ranking, rows: _Rows) -> KeptCount:
        kept = self.keeps[unit](*rows.chunk(ranking))
        return KeptCount(int(kept.sum()), int(rows.tokens[kept].sum()))


@dataclass(frozen=True)
class _Nearest:
    cutoff: Cutoff
    n: int

    def __call__(self, unit: Unit, ranking: Ranking, rows: _Rows) -> list[tuple[int, int, Unit]]:
        """Return (value key, tie hash, unit) of the records nearest to the cutoff on each side."""
        chunk = rows.chunk(ranking)
        kept = self.cutoff.keeps(chunk.keys, chunk.ties)
        found: list[tuple[int, int, Unit]] = []
        for inside, first in ((kept, slice(-self.n, None)), (~kept, slice(0, self.n))):
            keys, ties = chunk.keys[inside], chunk.ties[inside]
            if len(keys) > self.n:  # those of the n-th value and beyond it, with all ties of it
                at = np.partition(keys, len(keys) - self.n if inside is kept else self.n - 1)
                limit = at[len(keys) - self.n] if inside is kept else at[self.n - 1]
                near = keys >= limit if inside is kept else keys <= limit
                keys, ties = keys[near], ties[near]
            order = np.lexsort((ties, keys))[first]
            found += zip(keys[order].tolist(), ties[order].tolist(), [unit] * len(order), strict=True)
        return found
