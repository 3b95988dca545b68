"""Means, spreads and paired differences."""

import numpy as np
import pytest
from scipy import stats

from mira.evaluation.proxy.results import ArmResult, Difference, GoldResult, ModelSize, ProxyResult, SeedFigures
from mira.evaluation.proxy.stats import bits_per_byte, differences, t_figures
from mira.run_folder.files import write_json
from mira.run_folder.results import read_result, write_result

SIZES = {"a": np.array([100, 300]), "b": np.array([50, 50, 100])}


def test_t_interval():
    values = [2.0, 2.5, 2.1, 2.2]
    figures = t_figures(values, 0.95)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert figures.seeds == values
    assert figures.mean == pytest.approx(2.2)
    assert figures.sd == pytest.approx(np.std(values, ddof=1))
    assert (figures.low, figures.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_spread():
    assert t_figures([1.5], 0.95) == SeedFigures([1.5], 1.5)


def test_bits_per_byte_weighs_texts_by_bytes_and_sets_alike():
    bits = {"a": np.array([[200.0, 100.0], [200.0, 300.0]]), "b": np.array([[50.0, 0.0], [50.0, 0.0], [100.0, 800.0]])}
    assert bits_per_byte(bits, SIZES, ["a"]) == [1.0, 1.0]
    assert bits_per_byte(bits, SIZES, ["b"]) == [1.0, 4.0]
    assert bits_per_byte(bits, SIZES, ["a", "b"]) == [1.0, 2.5]


def test_differences_are_paired_by_seed():
    noise = np.array([[10.0, -30.0, 55.0], [80.0, -70.0, 5.0]])
    baseline = {"a": 500.0 + noise}
    arm = {"a": 500.0 + noise - np.array([[10.0], [30.0]])}
    figures = differences(arm, baseline, SIZES, ["a"], 0.95, 0)
    assert figures.seeds == pytest.approx([-0.1] * 3)
    assert figures.sd == pytest.approx(0, abs=1e-12)
    assert figures.high == pytest.approx(-0.1)
    assert (figures.records_low, figures.records_high) == (pytest.approx(-0.1), pytest.approx(-0.1))


def test_the_interval_over_gold_texts():
    rng = np.random.default_rng(0)
    sizes = {"a": np.full(50, 100)}
    baseline = {"a": np.full((50, 2), 300.0)}
    arm = {"a": baseline["a"] + rng.normal(-5, 20, (50, 1))}
    figures = differences(arm, baseline, sizes, ["a"], 0.95, 0)
    error = np.std(arm["a"][:, 0] / 100, ddof=1) / 50**0.5
    assert figures.sd == pytest.approx(0, abs=1e-12)
    assert figures.records_low == pytest.approx(figures.mean - 1.96 * error, abs=0.3 * error)
    assert figures.records_high == pytest.approx(figures.mean + 1.96 * error, abs=0.3 * error)
    assert differences(arm, baseline, sizes, ["a"], 0.95, 0) == figures


def test_a_single_gold_text_has_no_interval():
    figures = differences({"a": np.ones((1, 2))}, {"a": np.zeros((1, 2))}, {"a": np.array([10])}, ["a"], 0.9, 0)
    assert figures.mean == pytest.approx(0.1)
    assert figures.records_low is None


def test_the_result_is_written_and_read_back(tmp_path):
    figures = SeedFigures([2.0, 2.5], 2.25, 0.35, 1.0, 3.5)
    arm = ArmResult(
        method="mira", scope="group", records=10, tokens=900, gold_removed=1, overlap_removed=0, sources={"docs": 1.0},
        loss=[2.0, 2.1], bits_per_byte={"keep": figures}, difference={"keep": Difference([-0.1, -0.2], -0.15)},
    )  # fmt: skip
    result = ProxyResult(
        caveat="careful", size="smoke", model=ModelSize(96, 3, 4, 256, 128, 4, 600, 2e-3, 9, 9, 360_000), device="cpu",
        seeds=[0, 1], baseline="random", confidence=0.95, train_tokens=100, data_tokens=50, passes=2.0,
        gold={"keep": GoldResult("keep", 3, 40)}, arms={"mira": arm},
    )  # fmt: skip
    write_result(tmp_path / "proxy.json", result)
    assert read_result(ProxyResult, tmp_path / "proxy.json") == result


def test_a_file_of_an_earlier_mira_has_no_differences_of_the_baseline(tmp_path):
    path = tmp_path / "proxy.json"
    figures = {"seeds": [1.5], "mean": 1.5, "sd": None, "low": None, "high": None}
    arm = {"method": "random", "scope": "group", "records": 1, "tokens": 2, "gold_removed": 0, "overlap_removed": 0,
           "sources": {}, "loss": [1.0], "bits_per_byte": {"keep": figures}}  # fmt: skip
    write_json(path, arm)
    assert read_result(ArmResult, path).difference == {}
