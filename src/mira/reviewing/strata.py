"""Strata of a sample, and how many records each of them gives."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

__all__ = ["Cell", "Stratum", "allocate", "stratify", "weights"]

_LEAST = 2  # records of a stratum: one alone says nothing of its spread


class Cell(NamedTuple):
    """A source's records of one kind.

    Attributes:
        source: The source.
        kept: Whether the selection keeps them.
        band: "near" or "far" from the threshold, or "unranked".
        labelled: Whether the teacher has judged them.
    """

    source: str
    kept: bool
    band: str
    labelled: bool

    @property
    def verdict(self) -> str:
        """What the selection does with them."""
        return "kept" if self.kept else "dropped"


class Stratum(NamedTuple):
    """Records of which each has the same chance to be drawn: their name, number and weight in the allocation."""

    name: str
    records: int
    weight: float


_LEVELS: tuple[Callable[[Cell], str], ...] = (
    lambda cell: f"{cell.source}: {cell.verdict}, {'labelled' if cell.labelled else cell.band}",
    lambda cell: f"{cell.source}: {cell.verdict}, {cell.band}",
    lambda cell: f"{cell.source}: {cell.verdict}",
    lambda cell: f"{cell.verdict}, {cell.band}",
    lambda cell: cell.verdict,
)
"""From fine to coarse."""


def stratify(cells: Iterable[Cell], n: int) -> dict[Cell, str]:
    """Return each cell's stratum: the finest strata of which a sample of `n` can hold two records each."""
    cells = list(cells)
    for level in _LEVELS:
        found = {cell: level(cell) for cell in cells}
        if _LEAST * len(set(found.values())) <= n:
            return found
    return found


def weights(records: Mapping[Cell, int], *, near: float, labelled: float) -> dict[Cell, float]:
    """Return what part of the sample each cell should give; the parts sum to 1.

    Within records of one kind, a cell counts by the square root of its records, so that small sources are seen.

    Args:
        records: Each cell's records.
        near: Share of records near the threshold, among those without a label.
        labelled: Share of records with a label.
    """
    shares = {"labelled": labelled, "near": (1 - labelled) * near, "other": (1 - labelled) * (1 - near)}
    kind_of = {cell: "labelled" if cell.labelled else "near" if cell.band == "near" else "other" for cell in records}
    totals = dict.fromkeys(shares, 0.0)
    for cell, n in records.items():
        totals[kind_of[cell]] += math.sqrt(n)
    there = sum(share for kind, share in shares.items() if totals[kind]) or 1.0
    return {cell: shares[kind_of[cell]] / there * math.sqrt(n) / totals[kind_of[cell]] for cell, n in records.items()}


def allocate(strata: Iterable[Stratum], n: int) -> dict[str, int]:
    """Return how many records to draw of each stratum.

    Each gives two records, or all that it has; the rest follows the weights. The numbers sum to `n`, or to all records
    if there are fewer.

    Args:
        strata: The strata; at most n of them.
        n: Records to draw.
    """
    strata = sorted(strata)
    least = _LEAST if _LEAST * len(strata) <= n else 1
    drawn = {s.name: min(least, s.records) for s in strata}
    while (left := n - sum(drawn.values())) > 0:
        open_ = [s for s in strata if drawn[s.name] < s.records]
        if not open_:
            break
        # The stratum that is furthest below its part comes first; one at a time where little is left.
        total = sum(s.weight for s in open_) or 1.0
        short = {s.name: s.weight / total * n - drawn[s.name] for s in open_}
        rounded = {s.name: min(math.floor(left * s.weight / total), s.records - drawn[s.name]) for s in open_}
        if any(rounded.values()):
            for name, more in rounded.items():
                drawn[name] += more
        else:
            drawn[max(open_, key=lambda s: (short[s.name], s.name)).name] += 1
    return drawn
