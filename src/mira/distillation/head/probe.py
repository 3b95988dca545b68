"""The head before any tuning: a ridge on the frozen base model's features.

It costs one pass over the labels. Cross-validated on the training split it chooses the scale of the labels, and its
weights are what the linear layer starts from, so that tuning begins where frozen features end (Kumar et al. 2022,
"Fine-tuning can distort pretrained features": linear probing, then fine-tuning).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.distillation.encoder.agreement import agreement
from mira.distillation.head.targets import TARGETS, TargetName, forward, scales

__all__ = ["PENALTIES", "Probe", "fit_probe"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Ridge penalties that are tried, on features of unit variance (ours)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe.

    Attributes:
        target: The scale of the labels that it fits.
        weights: (targets, features).
        bias: (targets,); zeros where the layer has none.
        table: One row per candidate: target, penalty, cross-validated rho within sources, chosen.
    """

    target: TargetName
    weights: Array
    bias: Array
    table: list[dict[str, Any]]


def fit_probe(
    features: Array, scores: Array, sources: tuple[str, ...], folds: Ints, wanted: str, *, has_bias: bool
) -> Probe:
    """Choose scale and penalty by cross-validation, and fit on all rows.

    Args:
        features: (n, features) of the frozen model, as its last layer reads them.
        scores: Labels (n, slots + 1), NaN = missing: training records alone.
        sources: Each row's source.
        folds: Each row's fold.
        wanted: "auto", or the scale to use.
        has_bias: Whether the layer has a bias.
    """
    targets = [t for t in TARGETS if wanted in ("auto", t)]
    centre = features.mean(axis=0) if has_bias else np.zeros(features.shape[1])
    width = np.maximum((features - centre).std(axis=0), 1e-6)
    scaled = (features - centre) / width
    found: list[tuple[float, TargetName, float]] = []
    for target in targets:
        predicted = np.full((len(PENALTIES), *scores.shape), np.nan)
        for fold in np.unique(folds):
            inside, outside = folds == fold, folds != fold
            if outside.any():
                wanted_scores = forward(scales(target, scores[outside]), scores[outside])
                for p, (weights, bias) in enumerate(_ridges(scaled[outside], wanted_scores, has_bias)):
                    predicted[p, inside] = scaled[inside] @ weights + bias
        found += [
            (agreement(values[:, :-1], scores[:, :-1], sources)["rho_within"], target, penalty)
            for values, penalty in zip(predicted, PENALTIES, strict=True)
        ]
    best = max(found, key=lambda f: f[0])
    fitted = forward(scales(best[1], scores), scores)
    weights, bias = _ridges(scaled, fitted, has_bias)[PENALTIES.index(best[2])]
    plain = (weights / width[:, None]).T
    return Probe(
        best[1], plain, bias - plain @ centre,
        [{"target": t, "penalty": p, "rho_within": rho, "chosen": (rho, t, p) == best} for rho, t, p in found],
    )  # fmt: skip


def _ridges(features: Array, fitted: Array, has_bias: bool) -> list[tuple[Array, Array]]:
    """Return (weights (features, targets), bias) per penalty; a column's missing rows are left out of its fit."""
    n_features, n_targets = features.shape[1], fitted.shape[1]
    result = [(np.zeros((n_features, n_targets)), np.zeros(n_targets)) for _ in PENALTIES]
    patterns, of = np.unique(np.isfinite(fitted), axis=1, return_inverse=True)
    for p in range(patterns.shape[1]):
        rows, columns = np.flatnonzero(patterns[:, p]), np.flatnonzero(of.ravel() == p)
        if not len(rows):
            continue
        x, y = features[rows], fitted[np.ix_(rows, columns)]
        x_mean = x.mean(axis=0) if has_bias else np.zeros(n_features)
        y_mean = y.mean(axis=0) if has_bias else np.zeros(len(columns))
        x, y = x - x_mean, y - y_mean
        wide = x.shape[1] > x.shape[0]
        values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
        projected = vectors.T @ (y if wide else x.T @ y)
        for (weights, bias), penalty in zip(result, PENALTIES, strict=True):
            solved = vectors @ (projected / (np.maximum(values, 0) + penalty)[:, None])
            weights[:, columns] = x.T @ solved if wide else solved
            bias[columns] = y_mean - x_mean @ weights[:, columns]
    return result
