import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, mannwhitneyu, norm, spearmanr

from mira.stats import (
    auc,
    corrected_interval,
    generator,
    percentile_interval,
    rank_moments,
    resamples,
    spearman,
    wilson,
)
from support.simulate import pair


def tied(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, n).astype(float)
    return x, np.round(x / 2 + rng.normal(0, 1, n))


@pytest.mark.parametrize("n", [2, 3, 10, 300])
def test_spearman_is_scipys_with_ties(n):
    x, y = tied(n, seed=n)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y)[0], abs=1e-12)


def test_every_resample_is_scipys_rho_of_the_drawn_records():
    x, y = tied(40)
    (drawn,) = resamples(40, 60, generator(0))
    assert (drawn.sum(axis=0) == 40).all()
    expanded = [np.repeat(np.arange(40), column.astype(int)) for column in drawn.T]
    expected = [spearmanr(x[i], y[i])[0] for i in expanded]
    np.testing.assert_allclose(rank_moments(x, y, drawn).rho, expected, atol=1e-12)


def test_resamples_in_blocks_draw_every_record_equally_often():
    blocks = list(resamples(200_000, 5, generator(1)))
    assert len(blocks) == 3 and sum(b.shape[1] for b in blocks) == 5
    assert all((b.sum(axis=0) == 200_000).all() for b in blocks)
    assert np.mean([(b == 0).mean() for b in blocks]) == pytest.approx(np.exp(-1), abs=0.005)


def test_missing_scores_count_for_nothing():
    x, y = tied(30)
    holes_x, holes_y = x.copy(), y.copy()
    holes_x[:5], holes_y[5:9], holes_y[9] = np.nan, np.nan, np.inf
    assert spearman(holes_x, holes_y) == pytest.approx(spearman(x[10:], y[10:]), abs=1e-15)


@pytest.mark.parametrize(
    ("x", "y"),
    [([], []), ([1.0], [2.0]), ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]), ([np.nan] * 3, [1.0, 2.0, 3.0])],
)
def test_undefined_rho_is_nan_and_never_a_warning(x, y):
    assert np.isnan(spearman(np.array(x), np.array(y)))
    counts = np.ones((len(x), 7))
    assert np.isnan(rank_moments(np.array(x), np.array(y), counts).rho).all()


def test_added_moments_ignore_differences_between_sources():
    rng = np.random.default_rng(2)
    parts = [pair(400, 0.5, rng, level=level) for level in (2.0, 8.0)]
    within = sum((rank_moments(t, s) for t, s in parts[1:]), rank_moments(*parts[0])).rho[0]
    pooled = spearman(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    assert within == pytest.approx(0.5, abs=0.08)
    assert pooled > 0.8


@pytest.mark.parametrize(("n", "rho"), [(50, 0.6), (200, 0.3)])
def test_interval_covers_the_true_rho_as_often_as_it_says(n, rho):
    rng = np.random.default_rng(n)
    trials, hits = 300, 0
    for trial in range(trials):
        teacher, student = pair(n, rho, rng)
        (drawn,) = resamples(n, 400, generator(trial))
        low, high = percentile_interval(rank_moments(teacher, student, drawn).rho, 0.9)
        hits += low <= rho <= high
    low, high = wilson(hits, trials, 0.999)
    assert low - 0.03 <= 0.9 <= high + 0.03  # the percentile interval is known to be a little narrow at small n


def test_interval_counts_undefined_resamples_as_no_association():
    assert percentile_interval(np.array([0.9] * 80 + [np.nan] * 20), 0.9)[0] == 0.0
    assert np.isnan(percentile_interval(np.array([np.nan, np.nan]), 0.9)).all()


def test_generator_depends_on_names_alone():
    assert generator(1, "a").random() == generator(1, "a").random()
    assert len({generator(*key).random() for key in [(1, "a"), (2, "a"), (1, "b"), (1, "a", "b")]}) == 4


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (45, 80)])
def test_wilson_is_scipys(k, n):
    expected = binomtest(k, n).proportion_ci(0.9, method="wilson")
    assert wilson(k, n, 0.9) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nothing_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)


def test_auc_is_mann_whitney_with_ties():
    x, y = tied(60)
    positive = y > 1
    expected = mannwhitneyu(x[positive], x[~positive]).statistic / (positive.sum() * (~positive).sum())
    assert auc(x, positive) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(auc(x, np.ones(60, dtype=bool)))


def test_the_corrected_interval_is_scipys_without_acceleration() -> None:
    """Of a symmetric statistic the acceleration is 0, and scipy's BCa interval is the bias-corrected one."""
    values = np.concatenate([np.linspace(-1, 1, 41)])
    draw = np.random.default_rng(0).integers(0, 41, (4000, 41))
    means = values[draw].mean(axis=1) - 0.05  # a biased statistic: the same of the sample is 0
    low, high = corrected_interval(0.0, means, 0.9)
    plain_low, plain_high = percentile_interval(means, 0.9)
    assert plain_low < low < 0 < high and plain_high < high
    below = (means < 0).mean()
    tails = norm.cdf(2 * norm.ppf(below) + norm.ppf([0.05, 0.95]))
    assert (low, high) == pytest.approx(tuple(np.quantile(means, tails)), abs=2e-3)
    found = bootstrap((values,), np.mean, n_resamples=4000, confidence_level=0.9, rng=np.random.default_rng(1))
    unbiased = corrected_interval(values.mean(), found.bootstrap_distribution, 0.9)
    assert unbiased == pytest.approx(tuple(found.confidence_interval), abs=0.01)


def test_a_corrected_interval_of_samples_on_one_side_stays_among_them() -> None:
    low, high = corrected_interval(5.0, np.linspace(0, 1, 200), 0.9)
    assert 0.99 < low <= high <= 1
    assert np.isnan(corrected_interval(1.0, np.full(10, np.nan), 0.9)).all()
