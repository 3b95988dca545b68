import numpy as np
import pytest

from mira.evaluation.agreement import Held, agreement
from mira.stats import wilson


def test_counts_and_shares():
    records = [
        Held("a", True, 9.0, 90, "keep"),
        Held("a", True, 8.0, 20, "drop"),
        Held("a", True, 7.0, 60, "downsample"),
        Held("a", False, 3.0, 80, "keep"),
        Held("a", False, 2.0, 10, "drop"),
        Held("a", True, 6.0, 70, None),
        Held("b", False, None, 50, "keep"),
    ]
    found = agreement(records)
    a = found.sources["a"]
    assert (a.n, a.kept) == (5, 3)
    assert a.precision == pytest.approx(1 / 3) and a.base_rate == pytest.approx(2 / 5)
    assert (a.precision_low, a.precision_high) == wilson(1, 3)
    assert a.recall == 0.5
    assert a.dropworthy == pytest.approx(1 / 3) and a.dropworthy_base_rate == pytest.approx(2 / 5)
    b = found.sources["b"]
    assert (b.n, b.kept, b.precision, b.recall, b.ndcg) == (1, 0, None, 0.0, None)
    assert found.all.n == 6 and found.all.recall == pytest.approx(1 / 3)


def ranked(quality, overall):
    return agreement([Held("a", True, q, o, "keep") for q, o in zip(quality, overall, strict=True)]).all


def test_ndcg_by_hand():
    overall = np.array([30.0, 10.0, 20.0])
    discount = 1 / np.log2([2, 3, 4])
    best = (np.array([30, 20, 10]) * discount).sum()
    assert ranked([3, 1, 2], overall).ndcg == pytest.approx(1.0)
    assert ranked([1, 2, 3], overall).ndcg == pytest.approx((np.array([20, 10, 30]) * discount).sum() / best)
    assert ranked([3, 1, None], overall).ndcg == pytest.approx((np.array([30, 10, 20]) * discount).sum() / best)
    assert ranked([3, 1, 2], overall).ndcg_random == pytest.approx(20 * discount.sum() / best)
    assert ranked([3, 1, 2], overall).rho == pytest.approx(1.0)


def test_methods_without_quality_have_no_ranking():
    found = ranked([None, None], [1, 2])
    assert (found.ndcg, found.ndcg_random, found.rho) == (None, None, None)
    assert found.precision == 1.0
    assert agreement([]).all.precision is None


def test_equal_qualities_rank_like_a_random_order():
    found = ranked([5, 5, 5, 5], [1, 2, 3, 4])
    assert found.ndcg == pytest.approx(found.ndcg_random)
    assert found.rho is None
