import numpy as np
import pytest

from mira.reliability.shrinkage import shrink


def simulated(seed, sources=6, slots=10, own=0.05, noise=0.3, draws=200):
    """True z of cells from effects of source, slot and cell; rhos measured with noise; bootstrap samples of them."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.2, (sources, 1)) + rng.normal(0, 0.3, (1, slots)) + rng.normal(0, own, (sources, slots))
    truth = 0.7 + effects
    measured = truth + rng.normal(0, noise, truth.shape)
    samples = measured[..., None] + rng.normal(0, noise, (*truth.shape, draws))
    return np.tanh(truth), np.tanh(measured), np.tanh(samples)


def test_shrunken_cells_are_nearer_to_the_truth_and_their_intervals_hold_it():
    better, held = 0, []
    for seed in range(10):
        truth, rho, samples = simulated(seed)
        found = shrink(rho, samples, 0.9)
        better += np.square(found.rho - truth).mean() < 0.6 * np.square(rho - truth).mean()
        held.append(((found.low <= truth) & (truth <= found.high)).mean())
    assert better == 10
    assert 0.82 < np.mean(held) < 0.97


def test_sure_cells_hardly_move_and_unsure_ones_go_to_their_slot():
    truth, rho, samples = simulated(3, noise=0.02)
    assert shrink(rho, samples, 0.9).rho == pytest.approx(rho, abs=0.03)
    truth, rho, samples = simulated(3, own=0.0, noise=0.3)
    found = shrink(rho, samples, 0.9).rho
    assert found.std() < rho.std() and np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.8


def test_undefined_cells_stay_undefined_and_few_cells_are_left_alone():
    _, rho, samples = simulated(1)
    rho[2, 3] = np.nan
    found = shrink(rho, samples, 0.9)
    assert np.isnan(found.rho[2, 3]) and np.isfinite(found.rho).sum() == 59
    assert np.isnan(shrink(rho[:1, :2], samples[:1, :2], 0.9).rho).all()
    one = shrink(rho[:1], samples[:1], 0.9)  # of one source, an effect of slots cannot be told from one of cells
    assert np.isfinite(one.rho).all() and (one.low < one.high).all()
