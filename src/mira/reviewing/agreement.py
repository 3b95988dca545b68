"""How far judges agree: weighted kappa, Krippendorff's alpha and Spearman's rho, with bootstrap intervals.

All three follow from tables of counts or from ranks, so that a thousand resamples of the records cost a few products of
matrices. Records are drawn anew, with all that was said of them; the intervals are bias-corrected.

- Kappa (Cohen 1968): 1 - sum(w * observed) / sum(w * expected) over the table of two judges, with the weights |i - j|
  for verdicts, and (i - j)^2 for scores.
- Alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"): 1 - D_observed / D_expected over coincidences
  within records, with the interval metric (i - j)^2. On verdicts keep and drop alone, that is the nominal metric.
- Rho: within sources, so that it does not tell how well judges know sources apart.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mira.arrays import Floats
from mira.reviewing.results import Estimate
from mira.stats import corrected_interval, generator, rank_moments, resamples

__all__ = ["Pair", "alpha", "alpha_of_pairs", "kappa", "rho"]

_RESAMPLES = 1000
_FEWEST = 3  # records of a source, for a rank to mean anything


@dataclass(frozen=True, slots=True)
class Pair:
    """What two judges say of one record.

    Attributes:
        source: The record's source.
        record: Number of the record; one record may have several pairs.
        first: What one judge says.
        second: What the other says.
    """

    source: str
    record: int
    first: float
    second: float


def kappa(
    pairs: Sequence[Pair], levels: int, confidence: float, *, power: int = 1, symmetric: bool = False
) -> Estimate:
    """Return Cohen's weighted kappa.

    Args:
        pairs: What both judges say, rounded to whole levels.
        levels: Number of levels, from 0.
        confidence: Of the interval.
        power: Of the distance between levels: 1 for linear, 2 for quadratic weights.
        symmetric: Both columns are of the same judges, in any order.
    """
    tables = _tables(pairs, levels)
    if symmetric:
        tables = (tables + tables.transpose(0, 2, 1)) / 2

    def of(found: Floats) -> Floats:
        distance = np.abs(np.subtract.outer(np.arange(levels), np.arange(levels))) ** power
        rows, columns = found.sum(axis=2), found.sum(axis=1)
        expected = np.einsum("ri,rj,ij->r", rows, columns, distance) / np.maximum(rows.sum(axis=1), 1e-12)
        return _less_than_one(np.einsum("rij,ij->r", found, distance), expected)

    return _bootstrapped(tables, of, confidence, "kappa")


def alpha_of_pairs(pairs: Sequence[Pair], levels: int, confidence: float) -> Estimate:
    """Return Krippendorff's alpha of two judges."""
    tables = _tables(pairs, levels)
    return _bootstrapped(tables + tables.transpose(0, 2, 1), _alphas, confidence, "alpha")


def alpha(ratings: Iterable[Sequence[float]], levels: int, confidence: float) -> Estimate:
    """Return Krippendorff's alpha of any number of judges.

    Args:
        ratings: For each record, what its judges say, rounded to whole levels from 0. Records of one judge count for
            nothing.
        levels: Number of levels.
        confidence: Of the interval.
    """
    tables = []
    for given in ratings:
        if len(given) > 1:
            counts = np.bincount(np.rint(given).astype(np.intp), minlength=levels).astype(np.float64)
            tables.append((np.outer(counts, counts) - np.diag(counts)) / (len(given) - 1))
    found = np.array(tables, np.float64).reshape(len(tables), levels, levels)
    return _bootstrapped(found, _alphas, confidence, "alpha")


def rho(pairs: Sequence[Pair], confidence: float) -> Estimate:
    """Return Spearman's rho within sources, over those of at least three records."""
    records, numbers = np.unique([p.record for p in pairs], return_inverse=True)
    sources = np.array([p.source for p in pairs], dtype=object)
    first, second = np.array([p.first for p in pairs], np.float64), np.array([p.second for p in pairs], np.float64)
    some = [s for s in sorted(set(sources.tolist())) if len(set(numbers[sources == s].tolist())) >= _FEWEST]
    used = np.isin(sources, some)
    n = len(set(numbers[used].tolist()))
    if not some:
        return Estimate(None, None, None, n)

    def of(weights: Floats) -> Floats:
        parts = [rank_moments(first[sources == s], second[sources == s], weights[sources == s]) for s in some]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total.rho

    value = of(np.ones((len(pairs), 1)))
    if not np.isfinite(value[0]):
        return Estimate(None, None, None, n)
    rng = generator(0, "review", "rho", n)
    samples = np.concatenate([of(counts[numbers]) for counts in resamples(len(records), _RESAMPLES, rng)])
    return Estimate(float(value[0]), *corrected_interval(float(value[0]), samples, confidence), n)


def _tables(pairs: Sequence[Pair], levels: int) -> Floats:
    """Return one table of counts per record: (records, levels, levels)."""
    records, numbers = np.unique([p.record for p in pairs], return_inverse=True)
    tables = np.zeros((len(records), levels, levels))
    first, second = (np.rint([getattr(p, name) for p in pairs]).astype(np.intp) for name in ("first", "second"))
    np.add.at(tables, (numbers, first, second), 1.0)
    return tables


def _alphas(found: Floats) -> Floats:
    levels = found.shape[1]
    distance = np.subtract.outer(np.arange(levels), np.arange(levels)) ** 2
    values = found.sum(axis=2)
    n = values.sum(axis=1)
    expected = np.einsum("ri,rj,ij->r", values, values, distance) / np.maximum(n - 1, 1e-12)
    return _less_than_one(np.einsum("rij,ij->r", found, distance), expected)


def _less_than_one(observed: Floats, expected: Floats) -> Floats:
    defined = expected > 1e-12
    result: Floats = np.where(defined, 1 - observed / np.where(defined, expected, 1.0), np.nan)
    return result


def _bootstrapped(tables: Floats, statistic: Callable[[Floats], Floats], confidence: float, name: str) -> Estimate:
    """Return a statistic of the sum of tables, and the interval over resamples of the records."""
    n, levels = len(tables), tables.shape[1]
    value = statistic(tables.sum(axis=0, keepdims=True))[0] if n else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, n)
    flat = tables.reshape(n, -1)
    rng = generator(0, "review", name, n)
    samples = np.concatenate(
        [statistic((counts.T @ flat).reshape(-1, levels, levels)) for counts in resamples(n, _RESAMPLES, rng)]
    )
    return Estimate(float(value), *corrected_interval(float(value), samples, confidence), n)
