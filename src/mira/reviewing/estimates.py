"""Shares of a corpus, estimated from a stratified sample.

A record stands for 1/inclusion records of the corpus, and a share is a ratio of two such sums (Hajek). Its variance is
that of the linearised ratio within strata, with the correction for finite strata (Saerndal, Swensson and Wretman 1992,
section 5.6). The interval is Wilson's on the effective number of records that follows from it, corrected for few
records, as Korn and Graubard (1998) do with the interval of Clopper and Pearson. It also holds where nearly all records
agree; a bootstrap would find no spread there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.stats import wilson

__all__ = ["Judged", "share"]


@dataclass(frozen=True, slots=True)
class Judged:
    """The judged records of a sample, one entry each.

    Attributes:
        weights: Records of the corpus that each stands for.
        strata: Number of its stratum.
        sizes: Records of that stratum in the corpus.
    """

    weights: Floats
    strata: npt.NDArray[np.intp]
    sizes: Floats

    @classmethod
    def of(cls, strata: Sequence[str], sizes: Sequence[int], inclusion: Sequence[float]) -> "Judged":
        """Return the entries for records in these strata, of which each holds so many records."""
        _, numbers = np.unique(np.array(strata, dtype=object), return_inverse=True)
        return cls(1 / np.array(inclusion, np.float64), numbers, np.array(sizes, np.float64))


def share(judged: Judged, part: Floats, whole: Floats, confidence: float) -> tuple[float, float, float] | None:
    """Estimate sum(part) / sum(whole) over the corpus.

    Args:
        judged: The judged records.
        part: What each adds to the numerator, in [0, whole].
        whole: What each adds to the denominator, at least 0.
        confidence: Of the interval, in (0, 1).

    Returns:
        The share and the ends of its interval; None if nothing is in the denominator.
    """
    from scipy.special import ndtri, stdtrit  # noqa: PLC0415 - slow to import

    total = float(judged.weights @ whole)
    if not total > 0:
        return None
    value = float(judged.weights @ part) / total
    used = judged.weights * whole
    n = float(used.sum() ** 2 / (used @ used))  # Kish: where no spread is seen, weights alone say how much is known
    variance, freedom = _variance(judged, judged.weights * (part - value * whole) / total)
    if variance > 0 and 0 < value < 1:
        n = min(value * (1 - value) / variance, float(np.count_nonzero(whole)))
        tail = (1 + confidence) / 2
        n *= float(ndtri(tail) / stdtrit(freedom, tail)) ** 2
    low, high = wilson(value * n, n, confidence)
    return value, min(low, value), max(high, value)


def _variance(judged: Judged, terms: Floats) -> tuple[float, int]:
    """Return the variance of a sum of terms over strata, and its degrees of freedom.

    The strata of which one record is judged are taken as one.
    """
    counts = np.bincount(judged.strata)
    alone = counts[judged.strata] == 1
    strata = np.where(alone, len(counts), judged.strata)
    n = np.bincount(strata).astype(np.float64)
    if n[-1] == 1:  # a single one of them: it joins the largest stratum
        strata = np.where(strata == len(n) - 1, int(n[:-1].argmax()) if len(n) > 1 else 0, strata)
        n = np.bincount(strata).astype(np.float64)
    sizes = np.bincount(strata, judged.sizes / counts[judged.strata])
    sums, squares = np.bincount(strata, terms), np.bincount(strata, terms * terms)
    some = n > 1
    spread = np.zeros(len(n))
    spread[some] = np.maximum(squares[some] - sums[some] ** 2 / n[some], 0.0) / (n[some] - 1)
    left = np.maximum(1 - n / np.maximum(sizes, 1.0), 0.0)
    return float((n * spread * left).sum()), max(len(terms) - int(np.count_nonzero(n)), 1)
