import numpy as np
import pytest

from mira.config.settings import ReliabilitySettings
from mira.reliability.ceiling import Ceilings
from mira.reliability.evidence import Predictions, collect
from mira.reliability.students.table import compare_figures
from support.simulate import labels, pair, predictions

SETTINGS = ReliabilitySettings(bootstrap=300)


def table(students, teacher, ceiling, cells=None):
    k = len(ceiling[0])
    names, sources, told = [f"s{j}" for j in range(k)], list(teacher), labels(teacher)
    evidence = {n: collect("g", names, sources, told, Predictions(predictions(p))) for n, p in students.items()}
    cells = np.ones((len(sources), k), bool) if cells is None else np.array(cells)
    known = np.array(ceiling)
    given = Ceilings(known, np.full(known.shape, 20), np.zeros(known.shape, bool), np.zeros((*known.shape, 0)))
    return compare_figures(evidence, given, cells, settings=SETTINGS, seed=0)


def world(n=800, seed=0):
    """Sources of level 3 and 7; `good` has rho .8 within both, `level` knows the source alone."""
    rng = np.random.default_rng(seed)
    teacher, good, level = {}, {}, {}
    for source, middle in (("a", 3.0), ("b", 7.0)):
        score, student = pair(n, 0.8, rng, level=middle)
        teacher[source], good[source], level[source] = score[:, None], student[:, None], np.full((n, 1), middle)
    return teacher, {"good": good, "level": level}


def test_figures_are_those_of_the_simulation():
    teacher, students = world()
    found = table(students, teacher, [[0.9], [0.9]])
    good, level = found.students["good"], found.students["level"]
    assert found.records == 1600 and found.cells == 2
    assert good.rho.value == pytest.approx(0.8, abs=0.04)
    assert good.of_ceiling.value == pytest.approx(good.rho.value / 0.9)
    assert good.rho.low < good.rho.value < good.rho.high
    assert level.rho.value == level.of_ceiling.value == 0
    assert level.rho_across.value == pytest.approx(0.8, abs=0.1)  # the source alone orders much
    assert good.rho_across.value > level.rho_across.value
    errors = [np.abs(teacher[s] - students["good"][s]).mean() for s in "ab"]
    assert good.mae.value == pytest.approx(np.mean(errors), abs=1e-6)
    assert 0 < found.cell_width < 0.15


def test_differences_are_paired_and_antisymmetric():
    teacher, students = world(200)
    rng = np.random.default_rng(1)
    students["twin"] = {s: p + rng.normal(0, 0.02, p.shape) for s, p in students["good"].items()}
    found = table(students, teacher, [[0.9], [0.9]])
    there, back = found.differences["good"]["level"], found.differences["level"]["good"]
    assert there.rho.value == pytest.approx(found.students["good"].rho.value)
    assert there.rho.low == pytest.approx(-back.rho.high) and there.rho.low > 0.6
    assert there.mae.high < 0
    twin, own = found.differences["good"]["twin"], found.students["good"]
    for key in ("rho", "rho_across", "mae"):
        narrow, wide = getattr(twin, key), getattr(own, key)
        assert narrow.high - narrow.low < 0.2 * (wide.high - wide.low)
    assert set(found.differences["good"]) == {"level", "twin"}


def test_intervals_hold_the_truth():
    """Of 40 simulated corpora, about nine in ten 90% intervals must hold the true mean rho."""
    held = []
    for seed in range(40):
        teacher, students = world(60, seed)
        interval = table({"good": students["good"]}, teacher, [[1.0], [1.0]]).students["good"].rho
        held.append(interval.low <= 0.8 <= interval.high)
    assert sum(held) >= 31


def test_only_the_chosen_cells_and_the_known_ceilings_count():
    rng = np.random.default_rng(2)
    teacher = {s: rng.normal(5, 1, (100, 2)) for s in "ab"}
    student = {s: np.stack([m[:, 0], rng.normal(5, 1, 100)], axis=1) for s, m in teacher.items()}
    nan = float("nan")
    found = table({"s": student}, teacher, [[0.5, nan], [nan, 0.5]], [[True, False], [True, False]])
    assert found.cells == 2
    assert found.students["s"].rho.value == pytest.approx(1)
    assert found.students["s"].of_ceiling.value == 1  # one cell with a ceiling of .5, which cannot be right
    alone = table({"s": student}, teacher, [[0.5, nan], [nan, 0.5]], [[True, False], [False, False]])
    assert np.isnan(alone.students["s"].rho_across.value)
    nothing = table({"s": student}, teacher, [[0.5, nan], [nan, 0.5]], np.zeros((2, 2), bool))
    assert np.isnan(nothing.students["s"].rho.value) and np.isnan(nothing.students["s"].mae.low)


def test_labels_that_one_student_lacks_count_for_none():
    teacher, students = world(50)
    students["level"]["a"][:20] = np.nan
    found = table(students, teacher, [[1.0], [1.0]])
    assert found.records == 80
    rows = slice(20, None)
    errors = [np.abs(teacher[s] - students["good"][s])[rows if s == "a" else slice(None)].mean() for s in "ab"]
    assert found.students["good"].mae.value == pytest.approx(np.mean(errors), abs=1e-6)
