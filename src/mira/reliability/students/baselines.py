"""Naive students, and those that users know from elsewhere: what a student must beat before it is worth anything."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mira.arrays import Floats, SparseRows
from mira.reliability.evidence import Predictions, folds_of, matrix
from mira.rubric.slots import slot_columns, slot_name

__all__ = ["FASTTEXT", "MODEL2VEC", "Known", "known_students", "naive_students"]

_Predict = Callable[[Floats, NDArray[np.int64]], Floats]
"""Scores and folds -> predictions of every record by the labels of the other folds."""
Rows = NDArray[np.int64]

_MOST_PRODUCTS = 4096
"""Records up to which the products of all pairs are held: 128 MB."""


def naive_students(
    labels: pa.Table, texts: Mapping[tuple[str, str], str] | None = None, folds: int = 5
) -> dict[str, Predictions]:
    """Predict a group's labels by naive means.

    "constant" and "source mean" take the mean of all labels and of the source's labels. They do not vary within a
    source, so they are not cross-fitted: the means of the other folds would only add an artificial, negative
    correlation. "length" is a straight line on the logarithm of the tokens, fitted a source; "n-grams" a ridge on
    TF-IDF of character 2- to 4-grams over the group. Both are cross-fitted over folds by a hash of the id.

    Held-out records are predicted once more, by all four fitted on the other records alone.

    Args:
        labels: A group's labels with n_tokens and split; a record's first judgement counts.
        texts: (source, id) -> text; without it there is no "n-grams". A record without text gets no prediction.
        folds: Folds of cross-fitting.

    Returns:
        Name -> its predictions, to be compared with a student by `compare_students`.
    """
    first = _first_judgements(labels)
    features: dict[str, _Predict] = {"length": _by_length(first)}
    if texts is not None:
        features["n-grams"] = _by_ngrams(first, texts)
    return _predictions(first, features, folds, means=True)


def _predictions(
    first: pa.Table, features: Mapping[str, _Predict], folds: int, *, means: bool
) -> dict[str, Predictions]:
    scores, fold = matrix(first, slot_columns(first.schema.names)), folds_of(first["id"].to_pylist(), folds)
    held_out = pc.equal(first["split"], "held_out").to_numpy(zero_copy_only=False)
    fitted = np.where(held_out[:, None], np.nan, scores)
    crossed = {
        **(_by_means(first, scores) if means else {}),
        **{n: predict(scores, fold) for n, predict in features.items()},
    }
    # Two folds, of which one has no label that is fitted on: held-out records are predicted by the others.
    split = held_out.astype(np.int64)
    unseen = {
        **(_by_means(first, fitted) if means else {}),
        **{n: predict(fitted, split) for n, predict in features.items()},
    }
    rows = pa.array(held_out)
    return {
        name: Predictions(
            out_of_fold=_table(first, values),
            held_out=_table(first, unseen[name]).filter(rows) if held_out.any() else None,
        )
        for name, values in crossed.items()
    }


FASTTEXT, MODEL2VEC = "fastText-style", "Model2Vec-style"
_BUCKETS = 1 << 18
_CHARS = 20_000
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True, slots=True)
class Known:
    """Students of a kind that users know: their predictions, and records per second of computing their features."""

    predictions: dict[str, Predictions]
    speeds: dict[str, float]


def known_students(
    labels: pa.Table, texts: Mapping[tuple[str, str], str], embed: Callable[[Sequence[str]], Floats], folds: int = 5
) -> Known:
    """Predict a group's labels by two well-known cheap students, trained on the same labels.

    "fastText-style": a linear layer on the mean of hashed words, word pairs and character 3- to 6-grams, as fastText's
    classifier has it (Joulin et al. 2017), fitted by a ridge. "Model2Vec-style": a ridge on the mean of static token
    vectors (van Dongen and Tulkens 2024), its penalty chosen by leave-one-out. Both cross-fitted as `naive_students`.

    Args:
        labels: A group's labels with split; a record's first judgement counts.
        texts: (source, id) -> text. A record without text gets no prediction.
        embed: Texts -> static vectors (n, d).
        folds: Folds of cross-fitting.
    """
    first = _first_judgements(labels)
    found = [texts.get(key) for key in zip(first["source"].to_pylist(), first["id"].to_pylist(), strict=True)]
    have = np.array([i for i, text in enumerate(found) if text], dtype=np.int64)
    read = [text for text in found if text]
    features: dict[str, _Predict] = {}
    speeds: dict[str, float] = {}
    for name, make in ((FASTTEXT, _hashed), (MODEL2VEC, embed)):
        started = time.perf_counter()
        made = make(read) if read else None
        speeds[name] = round(len(read) / max(time.perf_counter() - started, 1e-9), 1)
        features[name] = _on(have, made, by_vectors=name == MODEL2VEC)
    return Known(_predictions(first, features, folds, means=False), speeds)


def _hashed(texts: Sequence[str]) -> SparseRows:
    from scipy import sparse  # noqa: PLC0415 - slow to import
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415 - slow to import

    options = {"n_features": _BUCKETS, "alternate_sign": False, "norm": None}
    parts = [
        HashingVectorizer(analyzer=analyzer, ngram_range=lengths, **options).transform(text[:_CHARS] for text in texts)
        for analyzer, lengths in (("word", (1, 2)), ("char_wb", (3, 6)))
    ]
    total = (parts[0] + parts[1]).tocsr()
    length = np.sqrt(np.asarray(total.multiply(total).sum(axis=1)).ravel())
    scaled: SparseRows = (sparse.diags(1 / np.maximum(length, 1e-9)) @ total).tocsr()
    return scaled


def _on(have: Rows, features: Floats | SparseRows | None, *, by_vectors: bool) -> _Predict:
    def predict(scores: Floats, fold: NDArray[np.int64]) -> Floats:
        predicted = np.full_like(scores, np.nan)
        if features is not None:
            fit = _by_vectors if by_vectors else None
            predicted[have] = _cross_fitted(features, scores[have], fold[have], alpha=1.0, fit=fit)
        return predicted

    return predict


def _by_vectors(features: Floats, scores: Floats, train: Rows, test: Rows, _alpha: float) -> Floats:
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415 - slow to import

    fitted = RidgeCV(_PENALTIES, alpha_per_target=scores.shape[1] > 1).fit(features[train], scores)
    predicted: Floats = fitted.predict(features[test]).reshape(len(test), -1)
    return predicted


def _first_judgements(labels: pa.Table) -> pa.Table:
    labels = labels.sort_by([("source", "ascending"), ("id", "ascending"), ("replicate", "ascending")])
    keys = list(zip(labels["source"].to_pylist(), labels["id"].to_pylist(), strict=True))
    return labels.take(pa.array([i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]], pa.int64()))


def _means(scores: Floats) -> Floats:
    scored = np.isfinite(scores)
    total, n = np.where(scored, scores, 0.0).sum(axis=0), scored.sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _by_means(labels: pa.Table, scores: Floats) -> dict[str, Floats]:
    sources = np.array(labels["source"].to_pylist(), dtype=object)
    by_source = np.empty_like(scores)
    for source in sorted(set(sources)):
        rows = np.flatnonzero(sources == source)
        by_source[rows] = _means(scores[rows])
    return {"constant": np.broadcast_to(_means(scores), scores.shape), "source mean": by_source}


def _by_length(labels: pa.Table) -> _Predict:
    length = np.log1p(labels["n_tokens"].to_numpy().astype(np.float64))[:, None]
    sources = np.array(labels["source"].to_pylist(), dtype=object)

    def predict(scores: Floats, fold: NDArray[np.int64]) -> Floats:
        predicted = np.full_like(scores, np.nan)
        for source in sorted(set(sources)):
            rows = np.flatnonzero(sources == source)
            predicted[rows] = _cross_fitted(length[rows], scores[rows], fold[rows], alpha=1e-6)
        return predicted

    return predict


def _by_ngrams(labels: pa.Table, texts: Mapping[tuple[str, str], str]) -> _Predict:
    found = [texts.get(key) for key in zip(labels["source"].to_pylist(), labels["id"].to_pylist(), strict=True)]
    have = np.array([i for i, text in enumerate(found) if text], dtype=np.int64)
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - slow to import

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=30_000, sublinear_tf=True)
    features = vectorizer.fit_transform(text[:20_000] for text in found if text) if len(have) else None

    def predict(scores: Floats, fold: NDArray[np.int64]) -> Floats:
        predicted = np.full_like(scores, np.nan)
        if features is not None:
            predicted[have] = _cross_fitted(features, scores[have], fold[have], alpha=1.0)
        return predicted

    return predict


def _cross_fitted(
    features: Floats | SparseRows, scores: Floats, fold: NDArray[np.int64], alpha: float,
    fit: Callable[..., Floats] | None = None,
) -> Floats:  # fmt: skip
    """Ridge predictions of every record by the other folds' labels; NaN where those are fewer than 2."""
    from scipy import sparse  # noqa: PLC0415 - slow to import

    predicted = np.full_like(scores, np.nan)
    fit = fit or (_by_products if sparse.issparse(features) and features.shape[0] <= _MOST_PRODUCTS else _by_columns)
    for train, test, columns in _fits(scores, fold):
        predicted[np.ix_(test, columns)] = fit(features, scores[np.ix_(train, columns)], train, test, alpha)
    return predicted


def _fits(scores: Floats, fold: NDArray[np.int64]) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Yield (records to fit, records to predict, slots): slots that lack the same scores go together."""
    scored = np.isfinite(scores)
    for f in np.unique(fold):
        patterns, of = np.unique(scored & (fold != f)[:, None], axis=1, return_inverse=True)
        for p in range(patterns.shape[1]):
            train = np.flatnonzero(patterns[:, p])
            if len(train) >= 2:
                yield train, np.flatnonzero(fold == f), np.flatnonzero(of.ravel() == p)


def _by_columns(features: Floats | SparseRows, scores: Floats, train: Rows, test: Rows, alpha: float) -> Floats:
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - slow to import

    predicted: Floats = Ridge(alpha).fit(features[train], scores).predict(features[test]).reshape(len(test), -1)
    return predicted


def _by_products(features: SparseRows, scores: Floats, train: Rows, test: Rows, alpha: float) -> Floats:
    """Fit the same ridge in its dual form: with more features than records, many times as fast."""
    from scipy.linalg import solve  # noqa: PLC0415 - slow to import

    seen, new = (np.asarray((features[rows] @ features[train].T).todense()) for rows in (train, test))
    column, all_of_it = seen.mean(axis=0), seen.mean()
    centred = seen - column - column[:, None] + all_of_it
    mean = scores.mean(axis=0)
    weights = solve(centred + alpha * np.eye(len(train)), scores - mean, assume_a="pos")
    predicted: Floats = (new - new.mean(axis=1, keepdims=True) - column + all_of_it) @ weights + mean
    return predicted


def _table(labels: pa.Table, predicted: Floats) -> pa.Table:
    columns = {slot_name(j): pa.array(column, from_pandas=True) for j, column in enumerate(predicted.T)}
    return pa.table({"id": labels["id"], "source": labels["source"], **columns})
