import numpy as np
import pytest

from mira.config.settings import ReliabilitySettings
from mira.reliability.cells import measure_group, n_resamples
from mira.reliability.evidence import Predictions, collect
from mira.reliability.masking import Reason, verdicts
from support.simulate import labels, pair, predictions, shuffled

SETTINGS = ReliabilitySettings()


def measured(teacher, student, *, shuffle=None, seed=0):
    table, predicted = labels(teacher), predictions(student)
    if shuffle is not None:
        table, predicted = shuffled(table, shuffle), shuffled(predicted, shuffle + 1)
    k = next(iter(teacher.values())).shape[1]
    evidence = collect("g", [f"s{j}" for j in range(k)], list(teacher), table, Predictions(predicted))
    return measure_group(evidence, bootstrap=500, confidence=0.9, seed=seed)


def one_cell(teacher, student):
    measure = measured({"a": teacher[:, None]}, {"a": student[:, None]})
    return measure.cells[0][0], verdicts(measure, SETTINGS)[0][0]


def test_a_strong_cell_is_trusted_on_its_own():
    teacher, student = pair(100, 0.8, np.random.default_rng(0))
    measure, verdict = one_cell(teacher, student)
    assert verdict.level == "cell" and not verdict.masked and verdict.why is None
    assert measure.n == 100
    assert measure.low < measure.rho < measure.high
    assert measure.mae == pytest.approx(np.abs(teacher - student).mean(), abs=1e-5)
    assert measure.mae_constant == pytest.approx(np.abs(teacher - np.median(teacher)).mean(), abs=1e-5)
    assert measure.skill == pytest.approx(1 - measure.mae / measure.mae_constant)
    assert measure.spread_teacher == pytest.approx(teacher.std(ddof=1), abs=1e-5)


def test_a_collapsed_cell_is_masked_although_its_error_is_small():
    rng = np.random.default_rng(1)
    teacher = np.full(200, 9.9)
    teacher[:10] = rng.uniform(0, 10, 10)
    measure, verdict = one_cell(teacher, teacher + rng.normal(0, 0.01, 200))
    assert measure.mae < 0.05
    assert verdict.reason == Reason.COLLAPSED
    assert "95% of labels share one score" in verdict.why


def test_a_teacher_with_one_score_only():
    measure, verdict = one_cell(np.full(50, 7.0), np.random.default_rng(0).normal(7, 1, 50))
    assert verdict.reason == Reason.COLLAPSED
    assert np.isnan(measure.skill) and np.isnan(measure.rho)


def test_a_constant_student_is_undefined():
    teacher, _ = pair(100, 0.5, np.random.default_rng(2))
    assert one_cell(teacher, np.full(100, 5.0))[1].reason == Reason.UNDEFINED


def test_a_weak_cell_is_masked_on_its_lower_bound_not_on_its_rho():
    rng = np.random.default_rng(3)
    few, many = pair(35, 0.45, rng), pair(2000, 0.45, rng)
    measure, verdict = one_cell(*few)
    assert measure.rho > SETTINGS.min_rho > measure.low
    assert verdict.reason == Reason.WEAK and f"{measure.low:.2f}" in verdict.why
    assert not one_cell(*many)[1].masked


def test_a_good_ranking_with_large_errors_has_no_skill():
    teacher, student = pair(200, 0.8, np.random.default_rng(4))
    measure, verdict = one_cell(teacher, student + 4)
    assert measure.rho > 0.7 and measure.skill < 0
    assert verdict.reason == Reason.NO_SKILL


def test_small_cells_are_judged_on_their_group():
    rng = np.random.default_rng(5)
    sizes = {"big": 200, "small": 8, "empty": 0}
    strong = {s: pair(n, 0.8, rng) for s, n in sizes.items()}
    noise = {s: pair(n, 0.0, rng, level=level) for (s, n), level in zip(sizes.items(), (2, 8, 8), strict=True)}
    teacher = {s: np.stack([strong[s][0], noise[s][0]], axis=1) for s in sizes}
    student = {s: np.stack([strong[s][1], noise[s][1]], axis=1) for s in sizes}
    measure = measured(teacher, student)
    big, small, empty = verdicts(measure, SETTINGS)
    assert [v.level for v in big] == ["cell", "cell"]
    assert [v.level for v in small + empty] == ["group"] * 4
    assert [v.reason for v in small] == [None, Reason.WEAK]  # levels of 2 and 8 in the second slot are no ranking
    assert small[0].evidence == measure.pooled[0] and measure.pooled[0].n == 208
    assert "the group's figures; the source has 8" in small[1].why


def test_a_small_group_is_masked():
    rng = np.random.default_rng(6)
    cells = {s: pair(10, 0.9, rng) for s in "ab"}
    measure = measured({s: t[:, None] for s, (t, _) in cells.items()}, {s: p[:, None] for s, (_, p) in cells.items()})
    verdict = verdicts(measure, SETTINGS)[0][0]
    assert (verdict.level, verdict.reason) == ("none", Reason.TOO_FEW)
    assert verdict.why == "too few labels: 10 in the source, 20 in the group, 30 are needed"


def test_missing_scores_are_left_out_cell_by_cell():
    rng = np.random.default_rng(7)
    teacher, student = pair(120, 0.8, rng)
    holes = teacher.copy()
    holes[:40] = np.nan
    none = np.full(120, np.nan)
    measure = measured(
        {"a": np.stack([teacher, holes, none], axis=1)}, {"a": np.stack([student, student, student], axis=1)}
    )
    assert [c.n for c in measure.cells[0]] == [120, 80, 0]
    alone = measured({"a": teacher[40:, None]}, {"a": student[40:, None]})
    assert measure.cells[0][1].rho == pytest.approx(alone.cells[0][0].rho, abs=1e-12)
    assert verdicts(measure, SETTINGS)[0][2].reason == Reason.TOO_FEW


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_record(n):
    measure = measured({"a": np.full((n, 2), 3.0)}, {"a": np.full((n, 2), 4.0)})
    assert all(v.reason == Reason.TOO_FEW for v in verdicts(measure, SETTINGS)[0])


def test_row_order_does_not_matter_but_the_seed_does():
    rng = np.random.default_rng(8)
    cells = {s: pair(60, 0.5, rng) for s in "ab"}
    teacher = {s: t[:, None] for s, (t, _) in cells.items()}
    student = {s: p[:, None] for s, (_, p) in cells.items()}
    reference = measured(teacher, student)
    again = measured(teacher, student, shuffle=3)
    assert again.cells == reference.cells and again.pooled == reference.pooled
    np.testing.assert_array_equal(again.samples, reference.samples)
    backwards = measured(dict(reversed(teacher.items())), student)
    assert backwards.cells[::-1] == reference.cells
    assert measured(teacher, student, seed=1).cells[0][0].low != reference.cells[0][0].low


def test_large_sources_take_fewer_resamples():
    assert n_resamples(0, 1000) == 1000
    assert n_resamples(600, 1000) == 1000
    assert n_resamples(10_000, 1000) == 500
    assert n_resamples(10**7, 1000) == 200
    assert n_resamples(10**7, 150) == 150
