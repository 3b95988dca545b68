import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mira.reviewing.agreement import Pair, alpha, alpha_of_pairs, kappa, rho
from mira.stats import spearman

LEVELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=40)


def pairs(values: list[tuple[int, int]], source: str = "ant") -> list[Pair]:
    return [Pair(source, i, a, b) for i, (a, b) in enumerate(values)]


@settings(max_examples=15)
@given(LEVELS, st.sampled_from([(1, "linear"), (2, "quadratic")]))
def test_kappa_is_that_of_scikit_learn(values: list[tuple[int, int]], weights: tuple[int, str]) -> None:
    from sklearn.metrics import cohen_kappa_score

    a, b = zip(*values, strict=True)
    assume(len({*a, *b}) > 1)
    found = kappa(pairs(values), 5, 0.95, power=weights[0])
    expected = cohen_kappa_score(a, b, labels=range(5), weights=weights[1])
    assert found.value == pytest.approx(expected, abs=1e-9)


# Krippendorff 2011, example C: four observers, twelve units, "." for missing.
OBSERVERS = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")


def test_alpha_is_that_of_the_paper() -> None:
    rows = [observer.split() for observer in OBSERVERS]
    units = [[float(row[u]) for row in rows if row[u] != "."] for u in range(12)]
    found = alpha(units, 6, 0.95)
    assert found.value == pytest.approx(0.849, abs=0.0005)  # its interval alpha
    assert found.n == 11  # one unit has a single value


def test_alpha_of_keep_and_drop_is_nominal() -> None:
    # Krippendorff 2011, example A: two observers, ten units, alpha 0.095.
    a, b = "0100000000", "1110010010"
    values = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    assert alpha_of_pairs(pairs(values), 2, 0.95).value == pytest.approx(0.095, abs=0.0005)
    assert alpha([list(v) for v in values], 2, 0.95).value == pytest.approx(0.095, abs=0.0005)
    doubled = [(2 * x, 2 * y) for x, y in values]
    assert alpha_of_pairs(pairs(doubled), 3, 0.95).value == pytest.approx(0.095, abs=0.0005)


@settings(max_examples=15)
@given(LEVELS)
def test_alpha_of_pairs_is_alpha_of_two(values: list[tuple[int, int]]) -> None:
    found, expected = alpha_of_pairs(pairs(values), 5, 0.95), alpha([list(v) for v in values], 5, 0.95)
    assert found.value == pytest.approx(expected.value) if expected.value is not None else found.value is None


def test_rho_is_within_sources() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    one = [Pair("ant", i, a, b) for i, (a, b) in enumerate(zip(x, y, strict=True))]
    assert rho(one, 0.95).value == pytest.approx(spearman(x, y))
    # Sources that judges only tell apart: no agreement within them.
    apart = [Pair(s, 100 * k + i, k, k) for k, s in enumerate(("ant", "bee")) for i in range(20)]
    assert rho(apart, 0.95).value is None


def test_intervals_narrow_with_records_and_repeat() -> None:
    rng = np.random.default_rng(1)

    def of(n: int) -> tuple[float, float]:
        truth = rng.integers(0, 2, n)
        noisy = np.where(rng.random(n) < 0.2, 1 - truth, truth)
        found = kappa(pairs(list(zip(truth.tolist(), noisy.tolist(), strict=True))), 2, 0.95)
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low <= found.value <= found.high
        return found.low, found.high

    few, many = of(40), of(1000)
    assert many[1] - many[0] < few[1] - few[0]
    assert many[0] < 0.6 < many[1]  # kappa of 20% noise on a balanced pair
    same = pairs([(0, 1), (1, 1), (0, 0), (1, 0), (1, 1)])
    assert kappa(same, 2, 0.95) == kappa(same, 2, 0.95)


def test_nothing_to_compare_is_unknown() -> None:
    for found in (kappa([], 3, 0.95), alpha([], 3, 0.95), rho([], 0.95), alpha_of_pairs([], 3, 0.95)):
        assert (found.value, found.n) == (None, 0)
    assert kappa(pairs([(1, 1), (1, 1), (1, 1)]), 3, 0.95).value is None  # nothing varies
