"""Cells' rhos drawn towards the means of their slot and their source, as far as the cells' own labels leave room."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats, one_thread

__all__ = ["Shrunken", "shrink"]

_MOST = 0.999
"""Rhos are cut here before they go to Fisher's scale, on which 1 is infinite."""


@dataclass(frozen=True, slots=True)
class Shrunken:
    """Empirical-Bayes estimates of every cell's rho, with intervals (sources, slots); NaN where rho is undefined."""

    rho: Floats
    low: Floats
    high: Floats


def shrink(rho: Floats, samples: Floats, confidence: float) -> Shrunken:
    """Return empirical-Bayes estimates of all cells of a group.

    On Fisher's z scale a cell is the group's mean, plus an effect of its source, one of its slot and one of its own,
    plus noise with the variance of the bootstrap samples. The variances of the effects are those of highest marginal
    likelihood, and the estimates are the best linear unbiased predictions (Robinson 1991). The model is ours. It leaves
    out that slots of a source share their records: with the full covariance, estimates from half of the demo's labels
    foretell the other half worse.

    Args:
        rho: (sources, slots).
        samples: Bootstrap samples of rho (sources, slots, resamples).
        confidence: Of the intervals, in (0, 1).
    """
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    known = np.isfinite(rho)
    found = [np.full(rho.shape, np.nan) for _ in range(3)]
    if known.sum() >= 3:
        source, slot = np.nonzero(known)
        z = np.arctanh(np.clip(rho[known], -_MOST, _MOST))
        drawn = np.arctanh(np.clip(np.nan_to_num(samples[known]), -_MOST, _MOST))
        same_source, same_slot = source[:, None] == source, slot[:, None] == slot
        noise = np.diag(drawn.var(axis=1) + 1e-6)
        effects = [same_source.astype(np.float64), same_slot.astype(np.float64), np.eye(len(z))]
        usable = [len(set(source)) > 1, len(set(slot)) > 1 and len(set(source)) > 1, True]
        with one_thread():
            prior = _prior(z, noise, [e for e, use in zip(effects, usable, strict=True) if use])
            mean, deviation = _predict(z, noise, prior)
        half = ndtri((1 + confidence) / 2) * deviation
        for array, values in zip(found, (mean, mean - half, mean + half), strict=True):
            array[known] = np.tanh(values)
    return Shrunken(*found)


def _prior(z: Floats, noise: Floats, effects: list[NDArray[np.float64]]) -> Floats:
    """Return the covariance of the effects, at the variances of highest marginal likelihood."""
    from scipy import linalg  # noqa: PLC0415 - slow to import
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    def covariance(logs: Floats) -> Floats:
        total: Floats = np.sum([np.exp(v) * e for v, e in zip(np.clip(logs, -20, 4), effects, strict=True)], axis=0)
        return total

    def misfit(logs: Floats) -> float:
        factor = linalg.cho_factor(covariance(logs) + noise, lower=True)
        ones, values = linalg.cho_solve(factor, np.ones_like(z)), linalg.cho_solve(factor, z)
        mean = values.sum() / ones.sum()
        # The last term makes it the restricted likelihood: the mean is estimated, too.
        return float(2 * np.log(np.diag(factor[0])).sum() + (z - mean) @ (values - mean * ones) + np.log(ones.sum()))

    best = minimize(misfit, np.full(len(effects), np.log(0.02)), method="Nelder-Mead", options={"xatol": 1e-2})
    return covariance(best.x)


def _predict(z: Floats, noise: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Return the predictions and their standard deviations, of which the mean's own uncertainty is part."""
    from scipy import linalg  # noqa: PLC0415 - slow to import

    factor = linalg.cho_factor(prior + noise, lower=True)
    ones = linalg.cho_solve(factor, np.ones_like(z))
    mean = (ones @ z) / ones.sum()
    predicted = mean + prior @ linalg.cho_solve(factor, z - mean)
    left = 1 - prior @ ones
    variance = np.diag(prior) - np.einsum("ij,ji->i", prior, linalg.cho_solve(factor, prior)) + left**2 / ones.sum()
    return predicted, np.sqrt(np.maximum(variance, 0))
