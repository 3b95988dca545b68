"""The learning curve: what more labels would buy."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira.arrays import one_thread
from mira.corpus.record import Record
from mira.distillation.encoder.agreement import agreement
from mira.distillation.encoder.cross_validation import Labels, TargetName, target_maps
from mira.distillation.encoder.head import NystroemBasis
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.distillation.encoder.student import labels_of, store_features
from mira.embedding.embedder import Embedder
from mira.progress import Log
from mira.run_folder.scratch import scratch_folder

__all__ = ["FRACTIONS", "learning_curve", "power_law"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
POWERS = np.arange(0.2, 1.01, 0.05)


def learning_curve(
    labels: pa.Table,
    records: Iterable[Record],
    n_slots: int,
    blocks: FeatureBlocks,
    target: TargetName,
    embedder: Embedder | None,
    folds: int,
    seed: int,
    log: Log,
    repeats: int = 5,
    fractions: Sequence[float] = FRACTIONS,
) -> dict[str, Any]:
    """Cross-fit a student on growing subsets of the training split.

    Every repeat draws its own subsets, nested in one another; each model is tested on the training split's fold that it
    has not seen. The held-out split is not touched.

    Args:
        labels: The group's labels.
        records: At least the labelled records of the training split.
        n_slots: Slots of the rubric.
        blocks: The student's features.
        target: What it fits.
        embedder: The student's embedder, where its features need one.
        folds: Folds of cross-fitting.
        seed: Of folds and subsets.
        log: Where progress goes.
        repeats: Subsets drawn of each size.
        fractions: Sizes of the subsets, as shares of the labels outside a fold; ascending.

    Returns:
        `points`: one a fraction: `labels`, `rho`, `rho_within` (means over repeats) and `rho_low`, `rho_high` (lowest
        and highest repeat). `projection`: for 2, 4 and 8 times the labels: `labels`, `rho`, `rho_low`, `rho_high`, the
        last two the lowest and highest of the repeats' own curves: a lower bound of the uncertainty, since all repeats
        share their labels and the power law itself is an assumption; the same of `rho_within`. Empty with fewer than 3
        fractions.
    """
    table = labels_of(labels, n_slots, folds, seed)
    table = table.take(np.flatnonzero(table.train))
    with one_thread(), scratch_folder() as scratch:
        store, table = store_features(scratch / "features", table, records, embedder, log, blocks.detail)
        everything = np.ones(len(table), dtype=bool)
        with (
            NystroemBasis(store, everything, blocks, table.priority) as span,
            log.task("learning curve", repeats) as task,
        ):
            found = []
            for repeat in range(repeats):
                order = np.random.default_rng([seed, repeat]).permutation(len(table))
                found.append([_one(span, table, target, order, fraction) for fraction in fractions])
                task.advance()
    sizes = np.array([found[0][i]["labels"] for i in range(len(fractions))])
    rho = np.array([[point["rho"] for point in repeat] for repeat in found])
    within = np.array([[point["rho_within"] for point in repeat] for repeat in found])
    points = [
        {
            "labels": int(size), "rho": float(rho[:, i].mean()), "rho_within": float(within[:, i].mean()),
            "rho_low": float(rho[:, i].min()), "rho_high": float(rho[:, i].max()),
        }
        for i, size in enumerate(sizes)
    ]  # fmt: skip
    return {"points": points, "projection": list(_projection(sizes, rho=rho, rho_within=within))}


def _one(
    span: NystroemBasis, table: Labels, target: TargetName, order: npt.NDArray[np.int64], fraction: float
) -> dict[str, float]:
    predicted, used = np.full(table.scores.shape, np.nan), []
    for fold in np.unique(table.folds):
        outside = order[table.folds[order] != fold]
        subset = np.zeros(len(table), dtype=bool)
        subset[outside[: max(2, round(fraction * len(outside)))]] = True
        used.append(int(subset.sum()))
        maps = target_maps(target, table.scores[subset])
        inside: Rows = table.folds == fold
        predicted[inside] = span.fit(subset, table.scores, maps).predict(inside)
    return {"labels": float(np.mean(used)), **agreement(predicted[:, :-1], table.scores[:, :-1], table.sources)}


def power_law(sizes: Array, values: Array) -> tuple[float, float, float]:
    """Fit values = limit - gain * sizes ** -power by least squares, limit in [0, 1], gain >= 0, power in [0.2, 1].

    Returns:
        limit, gain, power.
    """
    from scipy.optimize import nnls  # noqa: PLC0415 - slow to import

    best = (np.inf, 0.0, 0.0, 1.0)
    for power in POWERS:
        design = np.column_stack([np.ones(len(sizes)), -(sizes**-power)])
        (limit, gain), error = nnls(design, values)
        if limit > 1:  # the limit is held at 1: one coefficient is left
            column = -design[:, 1]
            limit, gain = 1.0, max(float(column @ (1 - values) / (column @ column)), 0.0)
            error = float(np.linalg.norm(limit - gain * column - values))
        best = min(best, (float(error), float(limit), float(gain), float(power)))
    return best[1:]


def _projection(sizes: Array, **figures: Array) -> Iterator[dict[str, float]]:
    if len(sizes) < 3:
        return
    curves = {
        name: [power_law(sizes.astype(np.float64), found) for found in (values.mean(axis=0), *values)]
        for name, values in figures.items()
    }
    for factor in (2, 4, 8):
        size = float(sizes[-1] * factor)
        point: dict[str, float] = {"labels": round(size)}
        for name, fitted in curves.items():
            values = [limit - gain * size**-power for limit, gain, power in fitted]
            point |= {name: values[0], f"{name}_low": min(values), f"{name}_high": max(values)}
        yield point
