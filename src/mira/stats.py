"""Rank statistics and their bootstrap, vectorised over resamples.

A bootstrap resample is a vector of counts (how often each record was drawn), so a resample never needs a sort of its
own: values are sorted once, and average ranks of every resample follow from cumulative counts. Arrays are laid out
records x resamples, so that each step runs along contiguous memory.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats

__all__ = [
    "RankMoments",
    "auc",
    "centred_ranks",
    "corrected_interval",
    "generator",
    "percentile_interval",
    "rank_moments",
    "resamples",
    "spearman",
    "wilson",
]


_BLOCK = 1 << 19
"""Elements of one block of resamples: small enough to stay in a core's cache, whatever the number of records."""


@dataclass(frozen=True, slots=True)
class RankMoments:
    """Second moments of the ranks of two variables, one entry a resample.

    Ranks are centred and divided by the number of records, so that moments of several sources can be added: each
    source then counts by its records, not by the square of them.

    Attributes:
        xy: Sum over records of rank(x) * rank(y).
        xx: Sum of rank(x)^2.
        yy: Sum of rank(y)^2.
    """

    xy: Floats
    xx: Floats
    yy: Floats

    def __add__(self, other: "RankMoments") -> "RankMoments":
        return RankMoments(self.xy + other.xy, self.xx + other.xx, self.yy + other.yy)

    @property
    def rho(self) -> Floats:
        """Spearman's rho of each resample; NaN where a variable does not vary."""
        scale = np.sqrt(self.xx * self.yy)
        defined = scale > 1e-12
        return np.where(defined, self.xy / np.where(defined, scale, 1.0), np.nan)


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a random generator that depends on the seed and the names alone, never on the order of calls."""
    digest = hashlib.blake2b("\x1f".join(map(str, (seed, *names))).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def resamples(n: int, count: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield bootstrap resamples of `n` records as counts.

    Args:
        n: Records; 0 is allowed.
        count: Resamples in all.
        rng: Source of randomness.

    Yields:
        Blocks (n, b) of counts, each column summing to n; the b of all blocks sum to `count`. The blocks' size, and
        so the drawn numbers, depend on n and count alone.
    """
    block = max(1, _BLOCK // max(n, 1))
    for start in range(0, count, block):
        b = min(block, count - start)
        drawn = rng.integers(0, max(n, 1), size=(b, n))
        flat = drawn * b + np.arange(b)[:, None]
        yield np.bincount(flat.ravel(), minlength=n * b).astype(np.float64).reshape(n, b)


def centred_ranks(x: Floats, weights: Floats) -> Floats:
    """Return average ranks minus their mean, divided by the number of records drawn.

    Args:
        x: Values (n,), all finite.
        weights: Counts (n, R) of each resample.

    Returns:
        (n, R) in (-0.5, 0.5): (average rank - (N + 1)/2) / N with N the column's sum, ties at their mean rank.
    """
    if not len(x):
        return np.zeros_like(weights)
    order = np.argsort(x, kind="stable")
    is_start = np.concatenate([[True], np.diff(x[order]) != 0])
    per_tie = np.add.reduceat(weights[order], np.flatnonzero(is_start), axis=0)
    ranks = np.cumsum(per_tie, axis=0)
    total = ranks[-1].copy()
    ranks -= per_tie / 2 + total / 2
    ranks /= np.maximum(total, 1.0)
    tie_of = np.empty(len(x), dtype=np.intp)
    tie_of[order] = np.cumsum(is_start) - 1
    result: Floats = ranks[tie_of]
    return result


def rank_moments(x: Floats, y: Floats, weights: Floats | None = None) -> RankMoments:
    """Return the moments of the ranks of x and y in every resample.

    Args:
        x: Values (n,). Records where x or y is not finite count for nothing.
        y: Values (n,).
        weights: Counts (n, R); by default one column of ones, i.e. the sample itself.
    """
    weights = np.ones((len(x), 1)) if weights is None else weights
    both = np.isfinite(x) & np.isfinite(y)
    weights = weights if both.all() else weights[both]
    rx, ry = centred_ranks(x[both], weights), centred_ranks(y[both], weights)
    wx = weights * rx
    return RankMoments(
        xy=np.einsum("ij,ij->j", wx, ry),
        xx=np.einsum("ij,ij->j", wx, rx),
        yy=np.einsum("ij,ij,ij->j", weights, ry, ry),
    )


def spearman(x: Floats, y: Floats) -> float:
    """Return Spearman's rho with average ranks for ties, over records where both are finite; NaN when undefined."""
    return float(rank_moments(x, y).rho[0])


def percentile_interval(samples: Floats, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of bootstrap samples (Efron and Tibshirani 1993, chapter 13).

    Undefined samples (a resample in which a variable does not vary) count as 0, no association: leaving them out
    would make a cell look surer than it is.

    Args:
        samples: One statistic a resample.
        confidence: In (0, 1).

    Returns:
        Low and high; NaN twice when no sample is defined.
    """
    if not np.isfinite(samples).any():
        return (float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.nan_to_num(samples, nan=0.0), [tail, 1 - tail])
    return (float(low), float(high))


def corrected_interval(value: float, samples: Floats, confidence: float) -> tuple[float, float]:
    """Return the bias-corrected percentile interval (Efron and Tibshirani 1993, chapter 14, without acceleration).

    A mean of many cells' rhos has a small spread, beside which its bias counts: resamples hold records twice, and their
    ties draw rho towards 0, in every cell. Where more than half of the samples lie below the figure, the interval
    moves up.

    Args:
        value: The statistic of the sample itself, finite.
        samples: One statistic a resample; undefined ones count as 0.
        confidence: In (0, 1).

    Returns:
        Low and high; NaN twice when no sample is defined.
    """
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - slow to import

    if not np.isfinite(samples).any():
        return (float("nan"), float("nan"))
    known = np.nan_to_num(samples, nan=0.0)
    below = ((known < value).sum() + (known == value).sum() / 2) / len(known)
    edge = 1 / (len(known) + 1)  # all samples on one side: no further than resamples can tell
    bias = ndtri(np.clip(below, edge, 1 - edge))
    tails = ndtr(2 * bias + ndtri([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(known, tails)
    return (float(low), float(high))


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927).

    Args:
        successes: In [0, n]; halves are allowed, for ties.
        n: Trials, or the effective number of them; 0 gives (0, 1), nothing is known.
        confidence: In (0, 1).
    """
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    if n == 0:
        return (0.0, 1.0)
    z = float(ndtri((1 + confidence) / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: P(a positive scores above a negative), ties counting half.

    It is the Mann-Whitney U over its maximum. Records with a score that is not finite count for nothing; NaN when
    there is no positive or no negative.
    """
    scored = np.isfinite(scores)
    scores, positive = scores[scored], positive[scored]
    n, n_positive = len(scores), int(positive.sum())
    if not 0 < n_positive < n:
        return float("nan")
    ranks = centred_ranks(scores, np.ones((n, 1)))[:, 0] * n + (n + 1) / 2
    u = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * (n - n_positive)))
