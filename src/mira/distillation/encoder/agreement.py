"""How well predictions order and hit the teacher's scores: what cross-validation compares candidates by."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["agreement", "spearman", "within_source_spearman"]

Array = npt.NDArray[np.float64]


def spearman(predicted: Array, labels: Array) -> float:
    """Return Spearman's rho of finite pairs; NaN where fewer than 3 pairs or a side is constant."""
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    both = np.isfinite(predicted) & np.isfinite(labels)
    return _correlation(rankdata(predicted[both]), rankdata(labels[both])) if both.sum() >= 3 else float("nan")


def within_source_spearman(predicted: Array, labels: Array, sources: Sequence[str]) -> float:
    """Return the correlation of ranks taken within each source and centred there, over all sources together.

    Knowing the source alone scores 0. NaN where fewer than 3 pairs or a side is constant in every source.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    both = np.isfinite(predicted) & np.isfinite(labels)
    names = np.array(sources)
    left, right = np.zeros(len(labels)), np.zeros(len(labels))
    for name in np.unique(names):
        rows = both & (names == name)
        if rows.sum() >= 2:
            # Ranks divided by the source's size: a large source weighs by its records, not by its rank numbers.
            left[rows] = rankdata(predicted[rows]) / rows.sum()
            right[rows] = rankdata(labels[rows]) / rows.sum()
            left[rows] -= left[rows].mean()
            right[rows] -= right[rows].mean()
    return _correlation(left[both], right[both]) if both.sum() >= 3 else float("nan")


def _correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-12 else float("nan")


def agreement(predicted: Array, labels: Array, sources: Sequence[str]) -> dict[str, float]:
    """Return means over slots, of those where they are defined; 0 where none is.

    Args:
        predicted: (n, slots).
        labels: (n, slots), NaN = missing.
        sources: Each row's source.

    Returns:
        `rho` (Spearman), `rho_within` (within source), `mae` (mean absolute error).
    """
    slots = range(labels.shape[1])
    return {
        "rho": _mean([spearman(predicted[:, j], labels[:, j]) for j in slots]),
        "rho_within": _mean([within_source_spearman(predicted[:, j], labels[:, j], sources) for j in slots]),
        "mae": _mean(np.abs(predicted - labels).ravel()),
    }


def _mean(values: Sequence[float] | Array) -> float:
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else 0.0
