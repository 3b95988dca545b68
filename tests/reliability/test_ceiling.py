import numpy as np
import pytest
from scipy.stats import spearmanr

from mira.reliability.ceiling import ceilings
from mira.reliability.evidence import Predictions, collect
from support.simulate import labels, predictions


def group_of(scores, again):
    k = next(iter(scores.values())).shape[1]
    return collect("g", ["x"] * k, list(scores), labels(scores, again), Predictions(predictions(scores)))


def noisy(truth, reliability, rng):
    """Two judgements with that correlation between them."""
    sd = np.sqrt((1 - reliability) / reliability)
    return [truth + sd * rng.standard_normal(truth.shape) for _ in range(2)]


@pytest.mark.parametrize("reliability", [0.4, 0.6, 0.8])
def test_ceiling_is_what_a_perfect_student_reaches(reliability):
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((20_000, 1))
    first, second = noisy(truth, reliability, rng)
    found = ceilings(group_of({"a": first}, {"a": second}), min_pairs=20)
    perfect = spearmanr(truth[:, 0], first[:, 0])[0]
    assert found.rho[0, 0] == pytest.approx(perfect, abs=0.02)
    assert found.rho[0, 0] == pytest.approx(np.sqrt(reliability), abs=0.03)
    assert found.pairs[0, 0] == 20_000 and not found.pooled[0, 0]


def test_few_pairs_take_the_groups_without_the_difference_between_sources():
    rng = np.random.default_rng(5)
    scores, again = {}, {}
    for source, level in (("a", 0.0), ("b", 50.0), ("c", 100.0)):
        first, second = noisy(rng.standard_normal((200, 1)), 0.5, rng)
        scores[source], again[source] = level + first, level + second[:15]
    found = ceilings(group_of(scores, again), min_pairs=20)
    assert found.pooled.all() and (found.pairs == 45).all()
    assert (found.rho == found.rho[0, 0]).all()
    assert 0.4 < found.rho[0, 0] < 0.9
    own = ceilings(group_of(scores, again), min_pairs=10)
    assert not own.pooled.any() and (own.pairs == 15).all()


def test_no_replicates_no_ceiling():
    found = ceilings(group_of({"a": np.arange(40.0)[:, None]}, None), min_pairs=20)
    assert np.isnan(found.rho).all() and (found.pairs == 0).all()


def test_a_teacher_that_contradicts_itself_leaves_nothing_to_reach():
    scores = {"a": np.arange(40.0)[:, None]}
    assert ceilings(group_of(scores, {"a": -scores["a"]}), min_pairs=20).rho[0, 0] == 0.0


def test_slots_missing_in_one_judgement_are_no_pair():
    scores = {"a": np.arange(80.0).reshape(40, 2)}
    again = {"a": scores["a"].copy()}
    again["a"][:30, 1] = np.nan
    found = ceilings(group_of(scores, again), min_pairs=5)
    assert found.pairs.tolist() == [[40, 10]]
