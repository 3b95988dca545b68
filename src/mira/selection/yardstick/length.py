"""Length: what it explains of the values within a source, and lengths that share a threshold.

`select.length.control: residual` ranks records by their value less what the logarithm of their tokens predicts, by a
straight line that is fitted to the source's records. A line takes two sums per source, which are exact, and anyone can
apply it to a record; values grow with each doubling of length by about the same, so a line in the logarithm fits better
than one in tokens. The line goes through the source's mean, so that the source's level stays as it was. `strata` takes
nothing from the values: each stratum of lengths keeps the same share of its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.selection.exact_moments import NO_MOMENTS, Moments
from mira.selection.units import Unit

__all__ = ["NO_FIT", "LengthFit", "LengthSums", "Lengths"]

_LEAST = 20  # records of a stratum (ours); a source with fewer per stratum has fewer strata

_FLAT = 1e-6  # doublings; lengths that vary less are one length, up to rounding


class LengthFit(NamedTuple):
    """What length predicts of a source's values: `slope` times (log2 of tokens less `centre`).

    Attributes:
        slope: Value per doubling of length.
        centre: Mean log2 of the source's tokens.
    """

    slope: float = 0.0
    centre: float = 0.0

    def rest(self, values: Floats, tokens: npt.NDArray[np.integer]) -> Floats:
        """Return values less what length predicts."""
        if not self.slope:
            return values
        return np.asarray(values - self.slope * (_log2(tokens) - self.centre), dtype=np.float64)


NO_FIT = LengthFit()


def _log2(tokens: npt.NDArray[np.integer]) -> Floats:
    return np.asarray(np.log2(np.maximum(tokens, 1).astype(np.float64)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class LengthSums:
    """Exact sums over records, from which the line follows whatever their order and sharding.

    Attributes:
        length: Of log2 of tokens.
        value: Of values.
        product: Of their products.
    """

    length: Moments = NO_MOMENTS
    value: Moments = NO_MOMENTS
    product: Moments = NO_MOMENTS

    @classmethod
    def of(cls, values: Floats, tokens: npt.NDArray[np.integer]) -> "LengthSums":
        """Return the sums over some records; their values are finite."""
        length = _log2(tokens)
        return cls(Moments.of(length), Moments.of(values), Moments.of(length * values))

    def __add__(self, other: "LengthSums") -> "LengthSums":
        return LengthSums(self.length + other.length, self.value + other.value, self.product + other.product)

    @property
    def fit(self) -> LengthFit:
        """The line of least squares; flat if all records have the same length."""
        n, x = self.length.n, self.length.sum
        spread = n * self.length.sum_of_squares - x * x
        if spread <= 0 or self.length.deviation < _FLAT:
            return NO_FIT
        return LengthFit(float((n * self.product.sum - x * self.value.sum) / spread), self.length.mean)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Records and tokens by length.

    Attributes:
        tokens: Lengths that occur, ascending.
        records: Records of each.
    """

    tokens: npt.NDArray[np.int64]
    records: npt.NDArray[np.int64]

    @classmethod
    def of(cls, tokens: npt.NDArray[np.integer]) -> "Lengths":
        """Count some records."""
        return cls(*np.unique(tokens.astype(np.int64), return_counts=True))

    def __add__(self, other: "Lengths") -> "Lengths":
        tokens, at = np.unique(np.concatenate([self.tokens, other.tokens]), return_inverse=True)
        records = np.zeros(len(tokens), np.int64)
        np.add.at(records, at, np.concatenate([self.records, other.records]))
        return Lengths(tokens, records)

    def strata(self, unit: Unit, most: int) -> Sequence[tuple[Unit, int]]:
        """Cut a unit into at most so many strata of about equally many records; return each with its tokens.

        A stratum has 20 records or more, and records of one length are never parted.
        """
        running = np.cumsum(self.records)
        n = int(running[-1]) if len(running) else 0
        count = max(1, min(most, n // _LEAST))
        marks = [-(-n * k // count) for k in range(1, count)]
        ends = np.unique(np.searchsorted(running, marks)) if marks else np.zeros(0, np.int64)
        ends = ends[ends < len(running) - 1]
        limits = [unit.shortest - 1, *self.tokens[ends].tolist(), unit.longest]
        weights = self.tokens * self.records
        parts = [unit._replace(shortest=below + 1, longest=longest) for below, longest in pairwise(limits)]
        inside = [(self.tokens >= part.shortest) & (self.tokens <= part.longest) for part in parts]
        return [(part, int(weights[rows].sum())) for part, rows in zip(parts, inside, strict=True)]
