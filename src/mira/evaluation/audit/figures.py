"""The figures of an audit, from arrays of one sample. All thresholds and definitions here are ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.evaluation.audit.results import Agreed, Stratum
from mira.evaluation.results import Estimate
from mira.reliability.cells import n_resamples
from mira.stats import RankMoments, auc, centred_ranks, generator, percentile_interval, rank_moments, resamples

__all__ = ["Sample", "agreed", "length_rho", "percentiles", "source_auc", "source_share", "strata_of", "upper_half"]

_RESAMPLES = 500
_FOLDS = 5
_BINS = 10
_LEAST = 20
_MOST_STRATA = 30
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Records of a sample; arrays of equal length.

    Attributes:
        names: Names of sources.
        source: Each record's place in `names`.
        fold: A number below 5, by a hash of its id.
        tokens: Its tokens.
        is_drawn: Whether it belongs to the sample. Other records are there for their labels alone.
        ids: Its id.
    """

    names: tuple[str, ...]
    source: Codes
    fold: Codes
    tokens: Floats
    is_drawn: npt.NDArray[np.bool_]
    ids: npt.NDArray[np.object_]

    def rows(self, usable: npt.NDArray[np.bool_]) -> list[tuple[str, Codes]]:
        """Return each source with its usable records."""
        return [(name, np.flatnonzero(usable & (self.source == at))) for at, name in enumerate(self.names)]


def agreed(sample: Sample, judge: str, values: Floats, truth: Floats, confidence: float, seed: int) -> Agreed | None:
    """Compare values with a judge's; None if no record has both.

    Records are resampled within their source; intervals are percentiles.
    """
    usable = np.isfinite(values) & np.isfinite(truth)
    if not usable.any():
        return None
    every = np.flatnonzero(usable)
    count = n_resamples(len(every), _RESAMPLES)
    plain, drawn, sources = [], [], {}
    for name, rows in sample.rows(usable):
        if len(rows):
            own, resampled = _moments(values[rows], truth[rows], count, generator(seed, "audit", judge, name))
            sources[name] = _estimate(float(own.rho[0]), resampled.rho, confidence)
            plain.append(own)
            drawn.append(resampled)
    across, all_resampled = _moments(values[every], truth[every], count, generator(seed, "audit", judge))
    return Agreed(
        judge=judge,
        records=len(every),
        within=_estimate(float(reduce(add, plain).rho[0]), reduce(add, drawn).rho, confidence),
        across=_estimate(float(across.rho[0]), all_resampled.rho, confidence),
        sources=sources,
        source_auc=source_auc(sample, truth, usable),
    )


def _moments(x: Floats, y: Floats, count: int, rng: np.random.Generator) -> tuple[RankMoments, RankMoments]:
    """Return the moments of the sample itself, and those of resamples."""
    blocks = [rank_moments(x, y, weights) for weights in resamples(len(x), count, rng)]
    parts = (np.concatenate([getattr(block, part) for block in blocks]) for part in ("xy", "xx", "yy"))
    return rank_moments(x, y), RankMoments(*parts)


def _estimate(value: float, samples: Floats, confidence: float) -> Estimate:
    return Estimate(value, *percentile_interval(samples, confidence)) if np.isfinite(value) else Estimate()


def upper_half(values: Floats) -> npt.NDArray[np.bool_]:
    """Return which finite values are in the upper half: above the median, or at it if that divides them better."""
    middle = float(np.median(values))
    above, at_least = values > middle, values >= middle
    return above if abs(above.mean() - 0.5) <= abs(at_least.mean() - 0.5) else at_least


def source_auc(sample: Sample, values: Floats, usable: npt.NDArray[np.bool_]) -> float | None:
    """Return how well the source alone predicts a record's half: the AUC of its source's share in the other folds."""
    rows = np.flatnonzero(usable & np.isfinite(values))
    if not len(rows) or len(sample.names) < 2:
        return None
    half = upper_half(values[rows])
    shape = (len(sample.names), _FOLDS)
    cell = sample.source[rows] * _FOLDS + sample.fold[rows]
    total = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    upper = np.bincount(cell, half.astype(np.float64), minlength=shape[0] * shape[1]).reshape(shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (upper.sum(axis=1, keepdims=True) - upper) / (total.sum(axis=1, keepdims=True) - total)
    found = auc(share.ravel()[cell], half)
    return float(found) if np.isfinite(found) else None


def source_share(sample: Sample, values: Floats, usable: npt.NDArray[np.bool_]) -> float | None:
    """Return the share of the variance of ranks that lies between sources."""
    rows = np.flatnonzero(usable & np.isfinite(values))
    if len(rows) < 2:
        return None
    ranks = centred_ranks(values[rows], np.ones((len(rows), 1)))[:, 0]
    total = float(ranks @ ranks)
    sums = np.bincount(sample.source[rows], ranks, minlength=len(sample.names))
    counts = np.bincount(sample.source[rows], minlength=len(sample.names))
    return float((sums**2 / np.maximum(counts, 1)).sum() / total) if total > 0 else None


def length_rho(sample: Sample, values: Floats, usable: npt.NDArray[np.bool_]) -> tuple[float | None, dict[str, float]]:
    """Return Spearman's rho with tokens, ranks taken within sources, and that of each source."""
    parts, by_source = [], {}
    for name, rows in sample.rows(usable & np.isfinite(values)):
        moments = rank_moments(values[rows], sample.tokens[rows])
        parts.append(moments)
        if np.isfinite(moments.rho[0]):
            by_source[name] = float(moments.rho[0])
    rho = float(reduce(add, parts).rho[0]) if parts else float("nan")
    return (rho if np.isfinite(rho) else None), by_source


def percentiles(sample: Sample, values: Floats, usable: npt.NDArray[np.bool_]) -> Floats:
    """Return each usable record's percentile within its source, in (0, 1); NaN elsewhere."""
    found = np.full(len(values), np.nan)
    for _, rows in sample.rows(usable & np.isfinite(values)):
        if len(rows):
            found[rows] = centred_ranks(values[rows], np.ones((len(rows), 1)))[:, 0] + 0.5
    return found


def strata_of(
    sample: Sample,
    values: Floats,
    reference: Floats | None,
    labels: Sequence[str | None],
    usable: npt.NDArray[np.bool_],
    confidence: float,
    seed: int,
) -> Mapping[str, Stratum]:
    """Return how the records of each value of a field are scored beside others of equal quality.

    Percentiles are taken within sources. Records of one source whose reference is in the same tenth count as of equal
    quality; without a reference, all records of a source do. The shift of a value is the mean of its records'
    percentiles less the mean of all records of equal quality, those with the value included.

    Args:
        sample: The records.
        values: The audited scores.
        reference: What equal quality is measured by; None if by nothing.
        labels: Each record's value of the field; None where it is missing.
        usable: Which records count.
        confidence: Of the intervals.
        seed: Of the resamples.
    """
    usable = usable & np.isfinite(values) & np.array([label is not None for label in labels], dtype=np.bool_)
    if reference is not None:
        usable = usable & np.isfinite(reference)
    share = percentiles(sample, values, usable)
    cell = sample.source.copy()
    if reference is not None:
        tenth = np.minimum(np.nan_to_num(percentiles(sample, reference, usable)) * _BINS, _BINS - 1).astype(np.int64)
        cell = cell * _BINS + tenth
    rows = np.flatnonzero(usable)
    if not len(rows):
        return {}
    counts = np.bincount(cell[rows])
    means = np.bincount(cell[rows], share[rows]) / np.maximum(counts, 1)
    rest = share[rows] - means[cell[rows]]
    names, code = np.unique(
        np.array([labels[row] for row in rows.tolist()], dtype=object).astype(str), return_inverse=True
    )
    found = {}
    for at in np.argsort(-np.bincount(code), kind="stable")[:_MOST_STRATA].tolist():
        own = rest[code == at]
        if len(own) >= _LEAST:
            rng = generator(seed, "audit strata", str(names[at]))
            drawn = np.concatenate([own @ weights / len(own) for weights in resamples(len(own), _RESAMPLES, rng)])
            shift = Estimate(float(own.mean()), *percentile_interval(drawn, confidence))
            found[str(names[at])] = Stratum(records=len(own), shift=shift)
    return found
