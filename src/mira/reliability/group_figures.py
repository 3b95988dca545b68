"""Figures over many cells, with intervals: means of rho, and shares of the teacher's ceiling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.reliability.ceiling import Ceilings
from mira.stats import corrected_interval

__all__ = ["Sampled", "mean_rho", "share_of_ceiling"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A figure and its bootstrap samples (R,); NaN where undefined."""

    value: float
    samples: Floats

    def __sub__(self, other: "Sampled") -> "Sampled":
        return Sampled(self.value - other.value, self.samples - other.samples)

    def interval(self, confidence: float) -> tuple[float, float, float]:
        """Return the figure and its bias-corrected interval; NaN three times where it is undefined."""
        if not np.isfinite(self.value):
            return (float("nan"),) * 3
        return (self.value, *corrected_interval(self.value, self.samples, confidence))


def mean_rho(rho: Floats, samples: Floats, cells: NDArray[np.bool_]) -> Sampled:
    """Return the mean of rho over some cells.

    Args:
        rho: (sources, slots). An undefined rho, of a student that does not vary, counts as 0.
        samples: Bootstrap samples of rho (sources, slots, resamples).
        cells: Which cells to take.
    """
    return _mean(np.nan_to_num(rho[cells]), np.nan_to_num(samples[cells]))


def share_of_ceiling(rho: Floats, samples: Floats, ceiling: Ceilings, cells: NDArray[np.bool_]) -> Sampled:
    """Return the mean over some cells of rho divided by the teacher's ceiling.

    A share above 1 says that the ceiling is not known well enough: no student can be expected to agree better with a
    teacher than that. It counts as 1, here and in every resample.

    Args:
        rho: See `mean_rho`.
        samples: See `mean_rho`.
        ceiling: The teacher's ceilings; without samples they are taken as known. Cells without a ceiling, or with one
            of 0, are left out.
        cells: Which cells to take.
    """
    taken = cells & (ceiling.rho > 0)
    highest, count = ceiling.rho[taken][:, None], ceiling.samples.shape[2]
    if count:  # another number of labels may have got another number of resamples
        highest = ceiling.samples[taken][:, np.arange(samples.shape[2]) % count]
    return _mean(_share(rho[taken], ceiling.rho[taken]), _share(samples[taken], highest))


def _share(rho: Floats, ceiling: Floats) -> Floats:
    share: Floats = np.clip(np.nan_to_num(rho) / np.maximum(ceiling, 1e-9), -1, 1)
    return share


def _mean(values: Floats, samples: Floats) -> Sampled:
    if not len(values):
        return Sampled(float("nan"), np.zeros(samples.shape[1]))
    return Sampled(float(values.mean()), samples.mean(axis=0))
