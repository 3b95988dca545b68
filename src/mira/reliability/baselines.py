"""Naive students: what a student must beat before it is worth anything."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from mira.reliability.evidence import Predictions, folds_of, matrix, slot_columns
from mira.reliability.stats import Floats

__all__ = ["naive_students"]


def naive_students(
    labels: pa.Table, texts: Mapping[tuple[str, str], str] | None = None, folds: int = 5
) -> dict[str, Predictions]:
    """Predict a group's labels by naive means.

    "constant" and "source mean" take the mean of all labels and of the source's labels. They do not vary within a
    source, so they are not cross-fitted: the means of the other folds would only add an artificial, negative
    correlation. "length" is a straight line on the logarithm of the tokens, fitted a source; "n-grams" a ridge on
    TF-IDF of character 2- to 4-grams over the group. Both are cross-fitted over folds by a hash of the id.

    Args:
        labels: A group's labels with n_tokens; a record's first judgement counts.
        texts: (source, id) -> text; without it there is no "n-grams". A record without text gets no prediction.
        folds: Folds of cross-fitting.

    Returns:
        Name -> its predictions, to be compared with a student by `compare_students`.
    """
    first = _first_judgements(labels)
    scores, fold = matrix(first, slot_columns(first.schema)), folds_of(first["id"].to_pylist(), folds)
    sources = np.array(first["source"].to_pylist(), dtype=object)
    of_source = [np.flatnonzero(sources == s) for s in sorted(set(sources))]
    source_mean = np.empty_like(scores)
    for rows in of_source:
        source_mean[rows] = _means(scores[rows])
    length = np.log1p(first["n_tokens"].to_numpy().astype(np.float64))[:, None]
    by_length = np.full_like(scores, np.nan)
    for rows in of_source:
        by_length[rows] = _cross_fitted(length[rows], scores[rows], fold[rows], alpha=1e-6)
    predicted = {
        "constant": np.broadcast_to(_means(scores), scores.shape),
        "source mean": source_mean,
        "length": by_length,
    }
    if texts is not None:
        predicted["n-grams"] = _by_ngrams(first, texts, scores, fold)
    return {name: Predictions(out_of_fold=_table(first, values)) for name, values in predicted.items()}


def _first_judgements(labels: pa.Table) -> pa.Table:
    labels = labels.sort_by([("source", "ascending"), ("id", "ascending"), ("replicate", "ascending")])
    keys = list(zip(labels["source"].to_pylist(), labels["id"].to_pylist(), strict=True))
    return labels.take(pa.array([i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]], pa.int64()))


def _means(scores: Floats) -> Floats:
    scored = np.isfinite(scores)
    total, n = np.where(scored, scores, 0.0).sum(axis=0), scored.sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _by_ngrams(
    labels: pa.Table, texts: Mapping[tuple[str, str], str], scores: Floats, fold: NDArray[np.int64]
) -> Floats:
    found = [texts.get(key) for key in zip(labels["source"].to_pylist(), labels["id"].to_pylist(), strict=True)]
    have = np.array([i for i, text in enumerate(found) if text], dtype=np.int64)
    predicted = np.full_like(scores, np.nan)
    if len(have):
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=30_000, sublinear_tf=True)
        features = vectorizer.fit_transform(text[:20_000] for text in found if text)
        predicted[have] = _cross_fitted(features, scores[have], fold[have], alpha=1.0)
    return predicted


def _cross_fitted(
    features: Floats | sparse.csr_matrix, scores: Floats, fold: NDArray[np.int64], alpha: float
) -> Floats:
    """Ridge predictions of every record by the other folds' labels; NaN where those are fewer than 2."""
    predicted = np.full_like(scores, np.nan)
    for j in range(scores.shape[1]):
        for f in np.unique(fold):
            train, test = np.flatnonzero((fold != f) & np.isfinite(scores[:, j])), np.flatnonzero(fold == f)
            if len(train) >= 2:
                predicted[test, j] = Ridge(alpha).fit(features[train], scores[train, j]).predict(features[test])
    return predicted


def _table(labels: pa.Table, predicted: Floats) -> pa.Table:
    columns = {f"A{j + 1}": pa.array(column, from_pandas=True) for j, column in enumerate(predicted.T)}
    return pa.table({"id": labels["id"], "source": labels["source"], **columns})
