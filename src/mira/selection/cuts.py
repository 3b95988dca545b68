"""Exact cutoffs from merged token histograms, at any scale.

A pool's records are ranked by (rank key of the value, tie hash), 128 bits that sort ascending. A cutoff is found by
narrowing an interval of that order: each sweep over the shards returns tokens by bin of the interval; the merged
histogram tells the bin in which the budget ends; once that bin holds few records they are fetched and the cutoff is
settled exactly. Memory depends on the number of bins, never on the number of records, and sums of integers make the
result independent of how records are sharded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mira.arrays import Words

__all__ = [
    "ALL",
    "NOTHING",
    "Chunk",
    "Cutoff",
    "Found",
    "Interval",
    "Problem",
    "Tally",
    "find_cutoffs",
    "merge",
    "tally",
]

Counts = npt.NDArray[np.int64]

_FULL = (1 << 64) - 1
_FIRST_BITS = 20  # of the value's key: sign, exponent and 8 bits of mantissa
_MORE_BITS = 16
_FETCH = 50_000  # records of one interval that are fetched instead of being counted again


class Cutoff(NamedTuple):
    """A record is kept if and only if its (value key, tie hash) is at most this pair."""

    value: int
    tie: int

    def keeps(self, keys: Words, ties: Words) -> npt.NDArray[np.bool_]:
        """Tell for each record whether it is kept."""
        if self.value < 0:
            return np.zeros(len(keys), bool)
        value = np.uint64(self.value)
        at = np.zeros(len(keys), bool) if self.tie < 0 else ties <= np.uint64(self.tie)
        kept: npt.NDArray[np.bool_] = (keys < value) | ((keys == value) & at)
        return kept


ALL = Cutoff(_FULL, _FULL)
NOTHING = Cutoff(-1, -1)


class Found(NamedTuple):
    """A cutoff, and the tokens of the records that it keeps (before any limits)."""

    cutoff: Cutoff
    tokens: int


@dataclass(frozen=True)
class Problem:
    """One cutoff to find: the longest prefix of a pool's ranking whose tokens fit a budget.

    Attributes:
        sources: The sources whose records compete.
        budget: Tokens.
        limits: Source -> (least, most) tokens that it keeps wherever the common cutoff falls. Sources without limits
            keep what ranks before the cutoff.
    """

    sources: tuple[str, ...]
    budget: int
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Interval:
    """Where a problem's cutoff lies: a range of one half of the key.

    Attributes:
        word: "value", or "tie" once the value is known.
        low: First key of the range.
        high: Last key of the range.
        value: The value's key where `word` is "tie".
        fetch: Return the records themselves, not their histogram.
    """

    word: Literal["value", "tie"] = "value"
    low: int = 0
    high: int = _FULL
    value: int = 0
    fetch: bool = False

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
            return Interval("tie", value=low, fetch=count <= _FETCH)
        return replace(self, low=low, high=high, fetch=count <= _FETCH or low == high)

    @property
    def before(self) -> Cutoff:
        """The cutoff that keeps everything ranked before the interval and nothing in it."""
        return Cutoff(self.low - 1, _FULL) if self.word == "value" else Cutoff(self.value, self.low - 1)


class Tally(NamedTuple):
    """What a shard holds of an interval: tokens and records by bin, or the records themselves.

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


Sweep = Callable[[Mapping[str, Sequence[Interval]]], Iterable[tuple[str, Sequence[Tally]]]]
"""Tally the given intervals of each source: yields (source, one tally an interval) a shard."""


def find_cutoffs(problems: Sequence[Problem], sweep: Sweep) -> list[Found]:
    """Find the cutoff of every problem, all in the same sweeps.

    Args:
        problems: The problems.
        sweep: Called once a round with the intervals that each source still has to be tallied in.

    Returns:
        One cutoff a problem. `ALL` where the budget holds the whole pool.
    """
    searches = [_Search(problem) for problem in problems]
    while open_ := [s for s in searches if s.found is None]:
        wanted: dict[str, list[_Search]] = {}
        for search in open_:
            for source in search.problem.sources:
                wanted.setdefault(source, []).append(search)
        for source, tallies in sweep({source: [s.interval for s in by] for source, by in wanted.items()}):
            for search, part in zip(wanted[source], tallies, strict=True):
                search.add(source, part)
        for search in open_:
            search.step()
    return [search.found for search in searches if search.found is not None]


class _Search:
    """State of one problem between sweeps."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.interval = Interval()
        self.found: Found | None = None
        self._limited = sorted(problem.limits)
        self._rows = {source: 1 + at for at, source in enumerate(self._limited)}  # row 0: sources without limits
        limits = [problem.limits[source] for source in self._limited]
        self._least = np.array([0, *(low for low, _ in limits)], np.int64)[:, None]
        self._most = np.array([_FULL >> 1, *(high for _, high in limits)], np.int64)[:, None]
        self._base = np.zeros((len(limits) + 1, 1), np.int64)  # tokens ranked before the interval
        self._tallies: dict[int, list[Tally]] = {}
        if not problem.sources:
            self.found = Found(ALL, 0)

    def add(self, source: str, part: Tally) -> None:
        row = self._rows.get(source, 0)
        parts = self._tallies.setdefault(row, [])
        parts.append(part)
        if len(parts) > 16:
            self._tallies[row] = [merge(parts, self.interval)]

    def step(self) -> None:
        """Narrow the interval by what was tallied, or settle the cutoff."""
        tallies = {row: merge(parts, self.interval) for row, parts in self._tallies.items()}
        self._tallies = {}
        if self.interval.fetch:
            self.found = self._settle(tallies)
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
            self.found = Found(ALL, int((self._base + tokens.sum(axis=1, keepdims=True)).sum()))
            return
        self._base = self._base + cumulated[:, [at]] - tokens[:, [at]]
        self.interval = self.interval.narrowed(int(bins[at]), int(records[at]))

    def _first_over(self, cumulated: Counts) -> int:
        """Return the first column whose tokens, each source within its limits, pass the budget."""
        kept = np.clip(cumulated, self._least, self._most).sum(axis=0)
        over = kept > self.problem.budget
        return int(np.argmax(over)) if over.any() else len(kept)

    def _settle(self, tallies: Mapping[int, Tally]) -> Found:
        rows = np.concatenate([np.full(len(t.bins), row) for row, t in tallies.items()])
        keys, ties, tokens, _ = merge(list(tallies.values()), self.interval)
        order = np.lexsort((ties, keys))
        keys, ties, tokens, rows = keys[order], ties[order], tokens[order], rows[order]
        spread = np.zeros((len(self._base), len(keys)), np.int64)
        spread[rows, np.arange(len(keys))] = tokens
        ends = np.flatnonzero(
            np.r_[(np.diff(keys) != 0) | (np.diff(ties) != 0), True]
        )  # records of one key go together
        cumulated = (self._base + np.cumsum(spread, axis=1))[:, ends]
        last = self._first_over(cumulated) - 1
        if last < 0:
            return Found(self.interval.before, int(self._base.sum()))
        return Found(Cutoff(int(keys[ends[last]]), int(ties[ends[last]])), int(cumulated[:, last].sum()))
