"""Exact cutoffs from merged token histograms, at any scale.

A pool's records are ranked by (rank key of the value, tie hash), 128 bits that sort ascending. A cutoff is found by
narrowing an interval of that order: each sweep over the shards returns tokens by bin of the interval; the merged
histogram tells the bin in which the budget ends; once that bin holds few records they are fetched and the cutoff is
settled exactly. Memory depends on the number of bins, never on the number of records, and sums of integers make the
result independent of how records are sharded.

With `skip`, a record that does not fit is passed over. Whether it fits depends on its tokens and on its unit's room:
what the budget, the other units' floors and its own cap leave. Room never grows along the ranking, so the kept records
are a few steps of it, each with the most tokens that fit. The search goes on among the records that still fit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mira.arrays import Words
from mira.selection.units import Unit

__all__ = [
    "ALL",
    "NOTHING",
    "Chunk",
    "Counts",
    "Cutoff",
    "Found",
    "Interval",
    "Problem",
    "Step",
    "Steps",
    "Sweep",
    "Tally",
    "find_cutoffs",
    "merge",
    "tally",
]

Counts = npt.NDArray[np.int64]

_FULL = (1 << 64) - 1
_MOST = (1 << 63) - 1
_FIRST_BITS = 20  # of the value's key: sign, exponent and 8 bits of mantissa
_MORE_BITS = 16
_FETCH = 50_000  # records of one interval that are fetched instead of being counted again


class Cutoff(NamedTuple):
    """A record is kept if and only if its (value key, tie hash) is at most this pair."""

    value: int
    tie: int

    def keeps(self, keys: Words, ties: Words) -> npt.NDArray[np.bool_]:
        """Return a mask of the records that are kept."""
        if self.value < 0:
            return np.zeros(len(keys), bool)
        value = np.uint64(self.value)
        at = np.zeros(len(keys), bool) if self.tie < 0 else ties <= np.uint64(self.tie)
        kept: npt.NDArray[np.bool_] = (keys < value) | ((keys == value) & at)
        return kept


ALL = Cutoff(_FULL, _FULL)
NOTHING = Cutoff(-1, -1)


class Step(NamedTuple):
    """A part of the ranking that ends at a cutoff: a record in it is kept if it has at most so many tokens."""

    cutoff: Cutoff
    most: int


class Steps(NamedTuple):
    """The steps that keep records of a unit if records that do not fit are passed over.

    Attributes:
        cutoff: Up to here, every record is kept that is not longer than the whole budget.
        parts: The steps, in the order of the ranking; the last one ends at `ALL`.
    """

    cutoff: Cutoff
    parts: tuple[Step, ...]

    def keeps(self, keys: Words, ties: Words, tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Return a mask of the records that are kept."""
        kept, before = np.zeros(len(keys), bool), np.zeros(len(keys), bool)
        for cutoff, most in self.parts:
            here = cutoff.keeps(keys, ties)
            kept |= here & ~before & (tokens <= most)
            before = here
        return kept


class Found(NamedTuple):
    """A cutoff, and the tokens of the records that it keeps (before any limits).

    With `skip`, `units` holds the steps of each unit, `tokens` counts all of it, and `cutoff` is that of units without
    limits.
    """

    cutoff: Cutoff
    tokens: int
    units: Mapping[Unit, Steps] | None = None


@dataclass(frozen=True)
class Problem:
    """One cutoff to find: the longest prefix of a pool's ranking whose tokens fit a budget.

    Attributes:
        units: The units whose records compete.
        budget: Tokens.
        limits: Unit -> (least, most) tokens that it keeps wherever the common cutoff falls. Units without limits keep
            the records that rank before the cutoff.
        skip: Pass over a record that does not fit, and go on.
    """

    units: tuple[Unit, ...]
    budget: int
    limits: Mapping[Unit, tuple[int, int]] = field(default_factory=dict)
    skip: bool = False


@dataclass(frozen=True)
class Interval:
    """The range of one half of the key in which a problem's cutoff lies.

    Attributes:
        word: "value", or "tie" once the value is known.
        low: First key of the range.
        high: Last key of the range.
        value: The value's key where `word` is "tie".
        fetch: Return the records themselves, not their histogram.
        after: Only records that rank after this cutoff count,
        most: and have at most so many tokens.
    """

    word: Literal["value", "tie"] = "value"
    low: int = 0
    high: int = _FULL
    value: int = 0
    fetch: bool = False
    after: Cutoff = NOTHING
    most: int = _MOST

    @property
    def shift(self) -> int:
        """Bits below a bin."""
        bits = _FIRST_BITS if self.word == "value" and (self.low, self.high) == (0, _FULL) else _MORE_BITS
        return max((self.high - self.low).bit_length() - bits, 0)

    def narrowed(self, bin_: int, count: int) -> "Interval":
        """Return the interval of one bin that holds `count` records."""
        low = self.low + (bin_ << self.shift)
        high = min(low + (1 << self.shift) - 1, self.high)
        if self.word == "value" and low == high:
            return replace(self, word="tie", low=0, high=_FULL, value=low, fetch=count <= _FETCH)
        return replace(self, low=low, high=high, fetch=count <= _FETCH or low == high)

    @property
    def last(self) -> Cutoff:
        """The cutoff that keeps everything up to the end of the interval."""
        return Cutoff(self.high, _FULL) if self.word == "value" else Cutoff(self.value, self.high)

    @property
    def before(self) -> Cutoff:
        """The cutoff before the first record that counts: what `after` settled may lie inside the range."""
        low = Cutoff(self.low - 1, _FULL) if self.word == "value" else Cutoff(self.value, self.low - 1)
        return max(low, self.after)


class Tally(NamedTuple):
    """A shard's part of an interval: tokens and records by bin, or the records themselves.

    Bins (or keys) ascend; with `fetch`, `bins` are value keys, `ties` tie hashes, and one entry is one record.
    """

    bins: Words
    ties: Words
    tokens: Counts
    records: Counts


class Chunk(NamedTuple):
    """Rankable records of one source: value keys, tie hashes, tokens."""

    keys: Words
    ties: Words
    tokens: Counts


def tally(interval: Interval, chunk: Chunk) -> Tally:
    """Count, or fetch, the records of `chunk` that lie in `interval`."""
    if interval.after != NOTHING or interval.most < _MOST:
        counts = (chunk.tokens <= interval.most) & ~interval.after.keeps(chunk.keys, chunk.ties)
        chunk = Chunk(chunk.keys[counts], chunk.ties[counts], chunk.tokens[counts])
    word = chunk.keys if interval.word == "value" else chunk.ties
    if (interval.word, interval.low, interval.high) != ("value", 0, _FULL):
        inside = (word >= np.uint64(interval.low)) & (word <= np.uint64(interval.high))
        if interval.word == "tie":
            inside &= chunk.keys == np.uint64(interval.value)
        chunk, word = Chunk(chunk.keys[inside], chunk.ties[inside], chunk.tokens[inside]), word[inside]
    if interval.fetch:
        return Tally(chunk.keys, chunk.ties, chunk.tokens, np.ones(len(word), np.int64))
    bins = (word - np.uint64(interval.low)) >> np.uint64(interval.shift)
    if not len(bins):
        return Tally(bins, bins, chunk.tokens, chunk.tokens)
    first = bins.min()
    offsets = (bins - first).astype(np.int64)
    records = np.bincount(offsets)
    tokens = np.bincount(offsets, chunk.tokens).astype(np.int64)  # exact: sums stay far below 2**53
    used = np.flatnonzero(records)
    return Tally(used.astype(np.uint64) + first, used[:0].astype(np.uint64), tokens[used], records[used])


def merge(parts: Sequence[Tally], interval: Interval) -> Tally:
    """Add up tallies of one interval."""
    empty = np.zeros(0, np.uint64)
    none = np.zeros(0, np.int64)
    merged = Tally(*(np.concatenate(column) for column in zip(Tally(empty, empty, none, none), *parts, strict=True)))
    if interval.fetch:
        return merged
    bins, inverse = np.unique(merged.bins, return_inverse=True)
    sums = [np.zeros(len(bins), np.int64) for _ in range(2)]
    np.add.at(sums[0], inverse, merged.tokens)
    np.add.at(sums[1], inverse, merged.records)
    return Tally(bins, empty, *sums)


Sweep = Callable[[Mapping[Unit, Sequence[Interval]]], Iterable[tuple[Unit, Sequence[Tally]]]]
"""Tally the given intervals of each unit: yields (unit, one tally per interval) per shard."""


def find_cutoffs(problems: Sequence[Problem], sweep: Sweep) -> list[Found]:
    """Find the cutoff of every problem, all in the same sweeps.

    Args:
        problems: The problems.
        sweep: Called once per round with the intervals that each unit still has to be tallied in.

    Returns:
        One cutoff per problem. `ALL` if the budget holds the whole pool.
    """
    searches = [_Search(problem) for problem in problems]
    while open_ := [s for s in searches if s.found is None]:
        wanted: dict[Unit, list[_Search]] = {}
        for search in open_:
            for unit in search.problem.units:
                wanted.setdefault(unit, []).append(search)
        for unit, tallies in sweep({unit: [s.interval_of(unit) for s in by] for unit, by in wanted.items()}):
            for search, part in zip(wanted[unit], tallies, strict=True):
                search.add(unit, part)
        for search in open_:
            search.step()
    return [search.found for search in searches if search.found is not None]


class _Search:
    """State of one problem between sweeps."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.found: Found | None = None
        self._interval = Interval()
        limited = sorted(problem.limits)
        self._rows = {unit: 1 + at for at, unit in enumerate(limited)}  # row 0: units without limits
        limits = [problem.limits[unit] for unit in limited]
        self._least = np.array([0, *(low for low, _ in limits)], np.int64)[:, None]
        self._most = np.array([_MOST, *(high for _, high in limits)], np.int64)[:, None]
        self._base = np.zeros((len(limits) + 1, 1), np.int64)  # tokens kept, or ranked, before the interval
        self._tallies: dict[int, list[Tally]] = {}
        self._room = self._room_left() if problem.skip else np.full(len(self._base), _MOST)  # most tokens of a record
        self._steps: list[tuple[Cutoff, Counts]] = []  # where each ends, and its room
        self._skipped: dict[int, Cutoff] = {}  # row -> the last record before the first one passed over
        if not problem.units:
            self.found = Found(ALL, 0)

    def interval_of(self, unit: Unit) -> Interval:
        """Return the interval to tally, for the records of a unit that may fit."""
        return replace(self._interval, most=int(self._room[self._rows.get(unit, 0)]))

    def add(self, unit: Unit, part: Tally) -> None:
        row = self._rows.get(unit, 0)
        parts = self._tallies.setdefault(row, [])
        parts.append(part)
        if len(parts) > 16:
            self._tallies[row] = [merge(parts, self._interval)]

    def step(self) -> None:
        """Narrow the interval by what was tallied, or settle the cutoff."""
        tallies = {row: merge(parts, self._interval) for row, parts in self._tallies.items()}
        self._tallies = {}
        if self._interval.fetch:
            self._settle(tallies)
            return
        bins = np.unique(np.concatenate([np.zeros(0, np.uint64), *(t.bins for t in tallies.values())]))
        tokens = np.zeros((len(self._base), len(bins)), np.int64)
        records = np.zeros(len(bins), np.int64)
        for row, part in tallies.items():
            columns = np.searchsorted(bins, part.bins)
            tokens[row, columns] = part.tokens
            records[columns] += part.records
        cumulated = np.cumsum(tokens, axis=1)
        at = self._first_over(self._base + cumulated)
        if at == len(bins):
            self._base = self._base + tokens.sum(axis=1, keepdims=True)
            self._end()
            return
        self._base = self._base + cumulated[:, [at]] - tokens[:, [at]]
        self._interval = self._interval.narrowed(int(bins[at]), int(records[at]))

    def _first_over(self, cumulated: Counts) -> int:
        """Return the first column whose tokens, each unit within its limits, pass the budget (or a cap, with skip)."""
        kept = np.clip(cumulated, self._least, self._most).sum(axis=0)
        over = kept > self.problem.budget
        if self.problem.skip:
            over |= (cumulated > self._most).any(axis=0)
        return int(np.argmax(over)) if over.any() else len(kept)

    def _settle(self, tallies: Mapping[int, Tally]) -> None:
        """Settle the cutoff among the interval's records; with skip, every step in the interval."""
        rows = np.concatenate([np.full(len(t.bins), row) for row, t in tallies.items()])
        keys, ties, tokens, _ = merge(list(tallies.values()), self._interval)
        order = np.lexsort((ties, keys))
        keys, ties, tokens, rows = keys[order], ties[order], tokens[order], rows[order]
        before = self._interval.before
        while len(keys):
            spread = np.zeros((len(self._base), len(keys)), np.int64)
            spread[rows, np.arange(len(keys))] = tokens
            ends = np.flatnonzero(np.r_[(np.diff(keys) != 0) | (np.diff(ties) != 0), True])  # equal keys go together
            cumulated = (self._base + np.cumsum(spread, axis=1))[:, ends]
            over = self._first_over(cumulated)
            if over:
                before = Cutoff(int(keys[ends[over - 1]]), int(ties[ends[over - 1]]))
                self._base = cumulated[:, [over - 1]]
            if not self.problem.skip:
                self.found = Found(before, int(self._base.sum()))
                return
            if over == len(ends):
                break
            passed = slice(ends[over - 1] + 1 if over else 0, ends[over] + 1)
            last = Cutoff(int(keys[ends[over]]), int(ties[ends[over]]))
            self._pass_over(before, last, rows[passed], tokens[passed])
            before = last
            rest = np.arange(len(keys)) > ends[over]
            rest &= tokens <= self._room[rows]
            keys, ties, tokens, rows = keys[rest], ties[rest], tokens[rest], rows[rest]
        self._interval = Interval(after=self._interval.last)
        if not self._room.any():
            self._end()

    def _pass_over(self, before: Cutoff, last: Cutoff, rows: Counts, tokens: Counts) -> None:
        """End a step before the records of one key, which do not fit."""
        self._steps.append((before, self._room))
        for row in rows.tolist():
            self._skipped.setdefault(row, before)
        self._room = self._room_left()
        if (tokens <= self._room[rows]).any():  # each would fit, but they go together
            self._steps.append((last, np.full_like(self._room, -1)))

    def _room_left(self) -> Counts:
        """Return the most tokens that a further record may have, by row."""
        reserved = np.maximum(self._least - self._base, 0)
        room = self.problem.budget - (self._base + reserved).sum() + reserved
        return np.asarray(np.minimum(room, self._most - self._base)[:, 0], np.int64)

    def _end(self) -> None:
        """All the rest fits."""
        tokens = int(self._base.sum())
        if not self.problem.skip:
            self.found = Found(ALL, tokens)
            return
        by_row = {row: self._steps_of(row) for row in {self._rows.get(unit, 0) for unit in self.problem.units}}
        cutoff = by_row[0].cutoff if 0 in by_row else max(steps.cutoff for steps in by_row.values())
        self.found = Found(cutoff, tokens, {unit: by_row[self._rows.get(unit, 0)] for unit in self.problem.units})

    def _steps_of(self, row: int) -> Steps:
        steps: list[Step] = []
        for cutoff, room in [*self._steps, (ALL, self._room)]:
            if steps and steps[-1].most == room[row]:
                steps.pop()
            steps.append(Step(cutoff, int(room[row])))
        return Steps(self._skipped.get(row, ALL), tuple(steps))
