from pathlib import Path

import numpy as np
import pytest

from mira.distillation.encoder.features import FeatureStore, featurise
from mira.distillation.encoder.head import PENALTIES, NystroemBasis, TargetMap
from mira.distillation.encoder.kernel import FeatureBlocks, kernel
from support.encoder_case import corpus

RECORDS, SCORES = corpus(90)


def test_ranks_map_there_and_back() -> None:
    labels = np.array([3.0, 3.0, 7.5, np.nan, 0.0, 10.0])
    found = TargetMap.ranks(labels)
    fitted = found.forward(labels)
    assert np.isnan(fitted[3]) and fitted[0] == fitted[1]
    np.testing.assert_allclose(found.back(fitted), labels)
    assert list(found.back(np.array([-9.0, 9.0]))) == [0.0, 10.0]
    steps = found.back(np.linspace(np.nanmin(fitted), np.nanmax(fitted), 50))
    assert (np.diff(steps) > 0).all()


def test_without_labels_a_map_says_nothing() -> None:
    found = TargetMap.ranks(np.full(4, np.nan))
    assert np.isnan(found.back(np.zeros(2))).all()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(tmp_path_factory.mktemp("store"), RECORDS, None)


def test_it_is_kernel_ridge_regression(store: FeatureStore) -> None:
    """Against the textbook solution (K + a I)^-1 (y - mean), with the penalty of lowest generalised CV error."""
    train = np.arange(len(RECORDS)) % 3 != 0
    y = SCORES[:, :1]
    maps = (TargetMap.scores_as_they_are(10.0),)
    with NystroemBasis(
        store, np.ones(len(RECORDS), bool), FeatureBlocks(), np.arange(len(RECORDS), dtype=np.uint64)
    ) as span:
        fit = span.fit(train, y, maps)
        found, head = fit.predict(~train), span.head(fit)
        scaled = head.scaling.apply(store.take(np.arange(len(RECORDS))))
    gram = kernel(FeatureBlocks(), scaled, scaled)
    inner, centred = gram[np.ix_(train, train)], y[train] - y[train].mean()

    def error(penalty: float) -> float:
        smoother = inner @ np.linalg.inv(inner + penalty * np.eye(len(inner)))
        return float(((centred - smoother @ centred) ** 2).sum() / (len(inner) - 1 - np.trace(smoother)) ** 2)

    best = min(PENALTIES, key=error)
    assert fit.penalties == (best,)
    weights = np.linalg.solve(inner + best * np.eye(len(inner)), centred)
    expected = np.clip(gram[np.ix_(~train, train)] @ weights + y[train].mean(), 0, 10)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(head.predict(store.take(np.flatnonzero(~train))), expected, atol=2e-3)


def test_a_store_gives_back_what_was_put_in(tmp_path: Path) -> None:
    small = FeatureStore(tmp_path, iter(RECORDS[:30]), None, chunk_rows=7)
    rows = np.array([0, 6, 7, 20, 29])
    found, expected = small.take(rows), featurise([RECORDS[i] for i in rows], None)
    assert (found.ngrams != expected.ngrams).nnz == 0
    np.testing.assert_array_equal(found.structure, expected.structure)
    assert found.sources == expected.sources and len(small) == 30
