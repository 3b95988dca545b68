"""The regression head: kernel ridge in the span of at most 2,048 landmark records, one penalty a slot.

With no more records than landmarks this is exact kernel ridge regression; with more it is its Nystrom approximation,
solved by normal equations that are summed up in blocks.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mira.distillation.encoder.features import Features, FeatureStore, Scaling
from mira.distillation.encoder.kernel import (
    DETAIL_WEIGHT,
    DETAIL_WIDTH,
    EMBEDDING_WEIGHT,
    EMBEDDING_WIDTH,
    PARTS_WEIGHT,
    PARTS_WIDTH,
    SOURCE_WEIGHT,
    STRUCTURE_WIDTH,
    FeatureBlocks,
    kernel,
    rbf_row,
)
from mira.errors import InputError
from mira.run_folder.scratch import scratch_folder

__all__ = ["LANDMARKS", "PENALTIES", "Head", "NystroemBasis", "TargetMap"]

Array = npt.NDArray[np.float64]
LANDMARKS = 2048
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class TargetMap:
    """A monotone map between scores and what the ridge fits: the scores, or their normal quantiles.

    Attributes:
        fitted: Knots on the fitted scale, strictly ascending; empty where there is no label.
        scores: The score of each knot, ascending. Between knots both are interpolated, beyond them held.
    """

    fitted: Array
    scores: Array

    @classmethod
    def scores_as_they_are(cls, top: float) -> "TargetMap":
        """Return the identity on [0, top], clipped to it."""
        return cls(np.array([0.0, top]), np.array([0.0, top]))

    @classmethod
    def ranks(cls, labels: Array) -> "TargetMap":
        """Return the map of `labels` (NaN = missing) to the normal quantiles of their mid-ranks.

        Least squares on quantiles cares for order, not for how far apart the teacher's scores happen to lie; mapping
        the fit back through the labels' distribution gives scores on the teacher's scale.
        """
        known = labels[np.isfinite(labels)]
        if not len(known):
            return cls(np.zeros(0), np.zeros(0))
        from scipy.special import ndtri  # noqa: PLC0415 - slow to import
        from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

        quantiles = ndtri((rankdata(known) - 0.5) / len(known))
        scores, first = np.unique(known, return_index=True)
        return cls(quantiles[first], scores)

    def forward(self, labels: Array) -> Array:
        """Return labels (NaN = missing) on the fitted scale."""
        if not len(self.scores):
            return np.full(labels.shape, np.nan)
        values = np.interp(labels, self.scores, self.fitted)
        return np.where(np.isfinite(labels), values, np.nan)

    def back(self, fitted: Array) -> Array:
        """Return fitted values as scores; NaN where there was no label to map by."""
        if not len(self.scores):
            return np.full(fitted.shape, np.nan)
        return np.interp(fitted, self.fitted, self.scores)


@dataclass(frozen=True, slots=True)
class Head:
    """A fitted student: scaled features in, scores out.

    Attributes:
        scaling: How features are scaled.
        blocks: Which are used.
        buckets: Weights of the n-gram buckets, (BUCKETS, targets).
        landmarks: Scaled features of the landmarks (n-grams not kept).
        duals: Weight of each landmark, (landmarks, targets).
        sources: Source -> its weights, (targets,).
        intercept: (targets,).
        maps: One a target.
        penalties: The chosen penalty of each target.
    """

    scaling: Scaling
    blocks: FeatureBlocks
    buckets: Array
    landmarks: Features
    duals: Array
    sources: dict[str, Array]
    intercept: Array
    maps: tuple[TargetMap, ...]
    penalties: tuple[float, ...]

    def predict(self, features: Features) -> Array:
        """Return scores of unscaled features, (n, targets); a row depends on its own features only, to the last bit.

        Raises:
            InputError: The features are of another family than the student's.
        """
        if features.parts.shape[1] != self.landmarks.parts.shape[1]:
            raise InputError(
                "the student was trained on records of another family",
                "Give it records of its own family: the group's name begins with it.",
            )
        scaled = self.scaling.apply(features)
        fitted = self.intercept + np.asarray(scaled.ngrams @ self.buckets)
        for i in range(len(scaled)) if self.blocks.structure or self.blocks.embedding else ():
            similar = np.zeros(len(self.duals))
            if self.blocks.structure:
                similar += rbf_row(scaled.structure[i], self.landmarks.structure, STRUCTURE_WIDTH)
                if scaled.parts.shape[1]:
                    similar += PARTS_WEIGHT * rbf_row(scaled.parts[i], self.landmarks.parts, PARTS_WIDTH)
            if self.blocks.detail:
                similar += DETAIL_WEIGHT * rbf_row(scaled.detail[i], self.landmarks.detail, DETAIL_WIDTH)
            if self.blocks.embedding:
                similar += EMBEDDING_WEIGHT * rbf_row(scaled.embedding[i], self.landmarks.embedding, EMBEDDING_WIDTH)
            fitted[i] += np.einsum("i,ij->j", similar, self.duals)
            if self.blocks.structure and scaled.sources[i] in self.sources:
                fitted[i] += self.sources[scaled.sources[i]]
        return np.column_stack([m.back(fitted[:, j]) for j, m in enumerate(self.maps)])


class NystroemBasis:
    """Records as coordinates in the span of the landmarks, on disk.

    Args:
        store: Features of all records.
        rows: Which of them statistics and landmarks are taken from.
        blocks: FeatureBlocks of features.
        priority: One number a row; the landmarks are the `LANDMARKS` rows of lowest priority.
        landmarks: Landmarks at most.
        placed: Rows that get coordinates, to be fitted or predicted; by default `rows`.

    Attributes:
        sampled: Whether there were more rows than landmarks.

    Use as a context manager: the coordinates' file is removed at the end.
    """

    def __init__(
        self,
        store: FeatureStore,
        rows: npt.NDArray[np.bool_],
        blocks: FeatureBlocks,
        priority: npt.NDArray[np.uint64],
        landmarks: int = LANDMARKS,
        placed: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        placed, candidates = rows if placed is None else placed, np.flatnonzero(rows)
        self.sampled = len(candidates) > landmarks
        chosen = np.sort(candidates[np.argsort(priority[candidates], kind="stable")[:landmarks]])
        self._scaling, self._blocks = Scaling.fit(store, rows), blocks
        self._landmarks = self._scaling.apply(store.take(chosen))
        self._whiten = _inverse_root(kernel(blocks, self._landmarks, self._landmarks))
        self._width = self._whiten.shape[1]
        self._scratch = ExitStack()
        folder = self._scratch.enter_context(scratch_folder())
        # Read and written in blocks, not mapped: the pages of a map would count as this process's memory.
        self._file = folder / "coordinates"
        with self._file.open("wb") as file:
            for span, features in store.chunks():
                wanted = np.flatnonzero(placed[span])
                coordinates = np.zeros((len(features), self._width), np.float32)
                if len(wanted):
                    similar = kernel(blocks, self._scaling.apply(features.take(wanted)), self._landmarks)
                    coordinates[wanted] = similar @ self._whiten
                file.write(coordinates.data)

    def __enter__(self) -> "NystroemBasis":
        return self

    def __exit__(self, *error: object) -> None:
        self._scratch.close()

    def fit(self, rows: npt.NDArray[np.bool_], labels: Array, maps: tuple[TargetMap, ...]) -> "Fit":
        """Fit every target on the rows that have its label.

        Args:
            rows: Rows to fit on; among those that are placed.
            labels: (n, targets), NaN = missing.
            maps: One a target.
        """
        targets = np.column_stack([m.forward(labels[:, j]) for j, m in enumerate(maps)])
        known = np.isfinite(targets) & rows[:, None]
        coefficients = np.zeros((self._width, targets.shape[1]))
        intercept, penalties = np.zeros(targets.shape[1]), np.zeros(targets.shape[1])
        for pattern in np.unique(known, axis=1).T:
            same = np.flatnonzero((known == pattern[:, None]).all(0))
            if pattern.any():
                solved = self._ridge(pattern, targets[:, same])
                coefficients[:, same], intercept[same], penalties[same] = solved
        return Fit(self, coefficients, intercept, maps, tuple(float(p) for p in penalties))

    def _ridge(self, rows: npt.NDArray[np.bool_], targets: Array) -> tuple[Array, Array, Array]:
        """Return coefficients, intercept and penalty by generalised cross-validation (Golub, Heath, Wahba 1979)."""
        from scipy import linalg  # noqa: PLC0415 - slow to import

        mean = targets[rows].mean(axis=0)
        gram, moment = np.zeros((self._width, self._width)), np.zeros((self._width, targets.shape[1]))
        for block, x in self.coordinates(rows):
            gram += x.T @ x
            moment += x.T @ (targets[block] - mean)
        values, vectors = linalg.eigh(gram, overwrite_a=True, check_finite=False)
        values, rotated = np.maximum(values, 0), vectors.T @ moment
        n, total = int(rows.sum()), ((targets[rows] - mean) ** 2).sum(axis=0)
        scores = []
        for penalty in PENALTIES:
            shrunk = rotated / (values + penalty)[:, None]
            residual = total - 2 * (rotated * shrunk).sum(0) + (values[:, None] * shrunk**2).sum(0)
            freedom = 1 + (values / (values + penalty)).sum()
            scores.append(np.maximum(residual, 0) / max(n - freedom, 1e-3) ** 2)
        penalties = np.array(PENALTIES)[np.argmin(scores, axis=0)]
        return vectors @ (rotated / (values[:, None] + penalties)), mean, penalties

    def coordinates(self, rows: npt.NDArray[np.bool_]) -> Iterator[tuple[npt.NDArray[np.int64], Array]]:
        """Yield blocks of `rows`, as numbers, and their coordinates."""
        for start in range(0, len(rows), BLOCK):
            inside = np.flatnonzero(rows[start : start + BLOCK])
            if len(inside):
                offset = start * self._width * np.dtype(np.float32).itemsize
                x = np.fromfile(self._file, np.float32, BLOCK * self._width, offset=offset).reshape(-1, self._width)
                yield start + inside, x[inside].astype(np.float64)

    def head(self, fit: "Fit") -> Head:
        """Return the fit as a student of its own, free of the span."""
        duals = self._whiten @ fit.coefficients
        names = np.array(self._landmarks.sources)
        return Head(
            scaling=self._scaling,
            blocks=self._blocks,
            buckets=np.asarray(self._landmarks.ngrams.T @ duals),
            landmarks=self._landmarks,
            duals=duals,
            sources={str(s): SOURCE_WEIGHT * duals[names == s].sum(axis=0) for s in np.unique(names)},
            intercept=fit.intercept,
            maps=fit.maps,
            penalties=fit.penalties,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """Ridge coefficients in a span's coordinates, (r, targets), with intercepts, maps and penalties."""

    span: NystroemBasis
    coefficients: Array
    intercept: Array
    maps: tuple[TargetMap, ...]
    penalties: tuple[float, ...]

    def predict(self, rows: npt.NDArray[np.bool_]) -> Array:
        """Return scores of rows of the span, (rows.sum(), targets)."""
        blocks = [x @ self.coefficients + self.intercept for _, x in self.span.coordinates(rows)]
        fitted = np.vstack(blocks) if blocks else np.zeros((0, len(self.maps)))
        return np.column_stack([m.back(fitted[:, j]) for j, m in enumerate(self.maps)])


def _inverse_root(gram: Array) -> Array:
    from scipy import linalg  # noqa: PLC0415 - slow to import

    values, vectors = linalg.eigh(gram, check_finite=False)
    kept = values > values[-1] * 1e-7
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))
