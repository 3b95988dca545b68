"""Figures of the small-LM proxy: bits per byte, their spread over seeds, and differences paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.evaluation.proxy.results import Difference, SeedFigures
from mira.stats import generator, percentile_interval, resamples

__all__ = ["Measured", "Sizes", "bits_per_byte", "differences", "t_figures"]

Measured = Mapping[str, Floats]
"""Gold set -> bits of each of its texts by each seed, (texts, seeds)."""

Sizes = Mapping[str, npt.NDArray[np.int64]]
"""Gold set -> bytes of each of its texts."""

_RESAMPLES = 1000


def t_figures(values: Sequence[float], confidence: float) -> SeedFigures:
    """Return values with their mean, standard deviation (n - 1) and Student's interval of the mean.

    Args:
        values: One per seed.
        confidence: In (0, 1).
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return SeedFigures(list(values), mean)
    sd = float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * sd / n**0.5
    return SeedFigures(list(values), mean, sd, mean - half, mean + half)


def bits_per_byte(measured: Measured, sizes: Sizes, sets: Sequence[str]) -> list[float]:
    """Return each seed's bits per byte: those of one gold set, or the unweighted mean of several."""
    per_set = [measured[name].sum(0) / sizes[name].sum() for name in sets]
    return [float(v) for v in np.mean(per_set, axis=0)]


def differences(
    arm: Measured, baseline: Measured, sizes: Sizes, sets: Sequence[str], confidence: float, seed: int
) -> Difference:
    """Compare an arm with the baseline, seed by seed.

    Args:
        arm: Its bits.
        baseline: The baseline's, by the same seeds.
        sizes: Bytes.
        sets: One gold set, or several whose unweighted mean is compared.
        confidence: Of the intervals, in (0, 1).
        seed: Of the bootstrap.
    """
    own, other = bits_per_byte(arm, sizes, sets), bits_per_byte(baseline, sizes, sets)
    found = t_figures([a - b for a, b in zip(own, other, strict=True)], confidence)
    figures = Difference(found.seeds, found.mean, found.sd, found.low, found.high)
    if min(len(sizes[name]) for name in sets) < 2:
        return figures
    drawn = np.zeros(_RESAMPLES)
    for name in sets:
        gain, size = (arm[name] - baseline[name]).mean(1), sizes[name].astype(np.float64)
        weights = np.concatenate(list(resamples(len(size), _RESAMPLES, generator(seed, "proxy", name))), axis=1)
        drawn += (gain @ weights) / (size @ weights) / len(sets)
    low, high = percentile_interval(drawn, confidence)
    return replace(figures, records_low=float(low), records_high=float(high))
