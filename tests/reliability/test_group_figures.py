import numpy as np
import pytest

from mira.reliability.ceiling import Ceilings, ceilings
from mira.reliability.cells import measure_group
from mira.reliability.evidence import Predictions, collect
from mira.reliability.group_figures import Sampled, mean_rho, share_of_ceiling
from mira.stats import percentile_interval
from support.simulate import labels, pair, predictions

SLOTS = 12
EVERY = np.ones((1, SLOTS), bool)


def corpus(seed, n=50, rho=0.8, noise=0.0, pairs=0):
    """One source; in every slot the student has that rho, and the teacher's second judgement differs by the noise."""
    rng = np.random.default_rng(seed)
    drawn = [pair(n, rho, rng) for _ in range(SLOTS)]
    teacher, student = (np.stack(column, axis=1) for column in zip(*drawn, strict=True))
    again = {"a": teacher[:pairs] + noise * rng.standard_normal((pairs, SLOTS))} if pairs else None
    return collect("g", ["x"] * SLOTS, ["a"], labels({"a": teacher}, again), Predictions(predictions({"a": student})))


def known(rho):
    shape = np.shape(rho)
    return Ceilings(np.array(rho), np.full(shape, 9), np.zeros(shape, bool), np.zeros((*shape, 0)))


def test_the_corrected_interval_covers_what_the_percentile_one_misses():
    """Of 200 simulated corpora: a 90% interval of the mean over 12 cells must hold the truth in about nine in ten."""
    truth, corrected, plain, below = 0.8, 0, 0, 0
    for seed in range(200):
        measure = measure_group(corpus(seed), bootstrap=200, confidence=0.9, seed=seed)
        found = mean_rho(measure.rho, measure.samples, EVERY)
        _, low, high = found.interval(0.9)
        corrected += low <= truth <= high
        low, high = percentile_interval(found.samples, 0.9)
        plain += low <= truth <= high
        below += high < truth
    assert plain < 150 and below > 0.9 * (200 - plain)  # nearly all of its misses lie below the truth
    assert corrected >= plain + 20


def test_a_share_counts_the_pairs_uncertainty():
    evidence = corpus(1, n=200, noise=1.0, pairs=25)
    measure = measure_group(evidence, bootstrap=400, confidence=0.9, seed=3)
    sampled = ceilings(evidence, 20, bootstrap=400, seed=3)
    assert sampled.samples.shape == (1, SLOTS, 400) and (sampled.samples <= 1).all()
    fixed = share_of_ceiling(measure.rho, measure.samples, known(sampled.rho), EVERY)
    joint = share_of_ceiling(measure.rho, measure.samples, sampled, EVERY)
    assert joint.value == fixed.value
    assert joint.samples.std() > 1.2 * fixed.samples.std()


def test_pairs_are_drawn_with_their_records():
    evidence = corpus(2, n=40, noise=1.0, pairs=40)
    source = evidence.sources[0]
    assert source.retested.tolist() == list(range(40))
    measure = measure_group(evidence, bootstrap=100, confidence=0.9, seed=5)
    sampled = ceilings(evidence, 20, bootstrap=100, seed=5)
    # The student is the teacher's second judgement: its rho is the teacher's reliability, in every resample.
    from dataclasses import replace

    same = replace(evidence, sources=(replace(source, student=source.retests[:, 1]),))
    rho = measure_group(same, bootstrap=100, confidence=0.9, seed=5).samples
    assert sampled.samples == pytest.approx(np.sqrt(np.maximum(rho, 0)))
    assert measure.samples.shape == rho.shape


def test_a_share_above_1_counts_as_1():
    rho, samples = np.array([[0.8, 0.6, np.nan]]), np.array([[[0.7, 0.9], [0.6, 0.6], [np.nan, 0.1]]])
    found = share_of_ceiling(rho, samples, known([[0.5, 0.8, 1.0]]), np.ones((1, 3), bool))
    assert found.value == pytest.approx((1 + 0.75 + 0) / 3)
    assert found.samples == pytest.approx([(1 + 0.75 + 0) / 3, (1 + 0.75 + 0.1) / 3])
    nothing = share_of_ceiling(rho, samples, known([[np.nan, 0.0, np.nan]]), np.ones((1, 3), bool))
    assert np.isnan(nothing.interval(0.9)).all()


def test_differences_are_taken_sample_by_sample():
    gap = Sampled(0.5, np.array([0.4, 0.6, 0.5])) - Sampled(0.3, np.array([0.2, 0.4, 0.3]))
    assert gap.value == pytest.approx(0.2) and gap.samples == pytest.approx([0.2, 0.2, 0.2])
