"""Mean and standard deviation that do not depend on the order or the sharding of the values."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mira.arrays import Floats

__all__ = ["NO_MOMENTS", "Moments"]

_SCALE = 1200  # sums are integers times 2**-1200, below the smallest float64


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact sums of values and of their rounded squares.

    Attributes:
        n: How many values.
        total: Their sum, times 2**1200.
        squares: The sum of their squares, times 2**1200.
    """

    n: int = 0
    total: int = 0
    squares: int = 0

    @classmethod
    def of(cls, values: Floats) -> "Moments":
        """Return the sums of finite values (their squares must be finite too)."""
        return cls(len(values), _exact_sum(values), _exact_sum(values * values))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def sum(self) -> Fraction:
        """Sum of the values."""
        return Fraction(self.total, 1 << _SCALE)

    @property
    def sum_of_squares(self) -> Fraction:
        """Sum of the squares of the values."""
        return Fraction(self.squares, 1 << _SCALE)

    @property
    def mean(self) -> float:
        """Mean; 0.0 of no value."""
        return float(Fraction(self.total, self.n << _SCALE)) if self.n else 0.0

    @property
    def deviation(self) -> float:
        """Population standard deviation; 0.0 of no value."""
        if not self.n:
            return 0.0
        mean = Fraction(self.total, self.n << _SCALE)
        return math.sqrt(max(Fraction(self.squares, self.n << _SCALE) - mean * mean, Fraction(0)))


NO_MOMENTS = Moments()


def _exact_sum(values: Floats) -> int:
    mantissas, exponents = np.frexp(values)
    integers = (mantissas * 2.0**53).astype(np.int64)
    total = 0
    for exponent in np.unique(exponents):
        part = integers[exponents == exponent]
        high, low = int((part >> 26).sum()), int((part & ((1 << 26) - 1)).sum())
        total += ((high << 26) + low) << (int(exponent) - 53 + _SCALE)
    return total
