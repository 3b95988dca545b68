"""The table that decides: order by speed, the cheapest that is not worse, cascades, and the baselines users know."""

import math

import numpy as np
import pyarrow as pa
import pytest

from mira.config.settings import ScoreSettings
from mira.reliability.evidence import Predictions
from mira.reliability.students.baselines import FASTTEXT, MODEL2VEC, known_students
from mira.reliability.students.compare import Interval
from mira.reliability.students.decision import Decision, cascade_of, cascade_speed, decide, in_words
from mira.reliability.students.speed import Speed, kept_speed, price_here, speed_served
from mira.reliability.students.table import Figures, Table
from mira.run_folder.paths import RunFolder

KINDS = {"encoder": "student", "head": "student", "cascade": "cascade"}
SPEEDS = {"encoder": Speed(400), "head": Speed(10), "cascade": Speed(80), "baseline": Speed(5000)}


def figures(rho: float, low: float = math.nan, high: float = math.nan) -> Figures:
    some = Interval(rho, low, high)
    return Figures(some, some, some, Interval(1.0, 0.9, 1.1))


def table(behind: dict[str, tuple[float, float]], best: str = "head") -> Table:
    """Students by how far the best one is ahead of them: the interval of the difference."""
    gaps = {name: figures((low + high) / 2, low, high) for name, (low, high) in behind.items()}
    students = {best: figures(0.8)} | {name: figures(0.8 - gap.rho.value) for name, gap in gaps.items()}
    return Table(50, 10, 0.2, students, {best: gaps})


def decision(**behind: tuple[float, float]) -> Decision:
    found = decide(table(behind), KINDS, SPEEDS, held_out=True)
    assert found is not None
    return found


def test_the_cheapest_is_the_fastest_student_whose_difference_to_the_best_may_be_nothing() -> None:
    found = decision(encoder=(-0.01, 0.05), cascade=(-0.02, 0.02), baseline=(-0.01, 0.03))
    assert (found.best, found.cheapest) == ("head", "encoder")
    assert [r.name for r in found.rungs] == ["baseline", "encoder", "cascade", "head"]
    assert [r.worse for r in found.rungs] == [False] * 4
    words = in_words(found)
    assert words[0].startswith("cheapest that is not worse than the best: encoder; head is 0.02 [-0.01, +0.05] ahead")
    assert words[1] == "not shown to be worse than the best student, either: baseline"
    found = decision(encoder=(0.01, 0.05), cascade=(-0.02, 0.02), baseline=(0.01, 0.03))
    assert found.cheapest == "cascade" and len(in_words(found)) == 1
    found = decision(encoder=(0.01, 0.05), cascade=(0.01, 0.02), baseline=(-0.2, 0.03))
    assert found.cheapest == "head", "a baseline scores no corpus, so it is never chosen"


def test_a_speed_that_is_not_known_comes_last_and_nothing_to_compare_is_no_decision() -> None:
    found = decide(table({"encoder": (0.01, 0.05)}), KINDS, {"head": Speed(10)}, held_out=False)
    assert found is not None and [r.name for r in found.rungs] == ["head", "encoder"] and not found.held_out
    assert decide(Table(0, 0, math.nan, {"encoder": figures(math.nan)}, {}), KINDS, {}, held_out=True) is None


def test_a_cascade_asks_the_dear_student_about_the_middle_of_each_source() -> None:
    ids, sources = [f"r{i}" for i in range(20)], ["a"] * 10 + ["b"] * 10

    def said(values: np.ndarray) -> Predictions:
        return Predictions(held_out=pa.table({"id": ids, "source": sources, "A1": values, "A2": values + 1}))

    cheap = np.concatenate([np.arange(10.0), np.arange(10.0) + 50])
    dear = Predictions(held_out=said(np.full(20, -1.0)).held_out.take(pa.array(range(19, -1, -1))))
    mixed = cascade_of(said(cheap), dear, 0.2)
    assert mixed.out_of_fold is None
    asked = np.flatnonzero(mixed.held_out["A1"].to_numpy() == -1)
    assert asked.tolist() == [4, 5, 14, 15]
    assert (mixed.held_out["A2"].to_numpy()[asked] == 0).all()
    rest = np.setdiff1d(np.arange(20), asked)
    assert (mixed.held_out["A1"].to_numpy()[rest] == cheap[rest]).all()
    assert cascade_speed(Speed(100, 1.0), Speed(10, 30.0), 0.1) == Speed(50.0, 4.0)


def test_prices_and_the_manifest_of_a_served_student(tmp_path) -> None:
    assert price_here(100, ScoreSettings(price_per_hour=0.36)) == pytest.approx(1e6 / 100 / 3600 * 0.36)
    assert math.isnan(price_here(100, ScoreSettings()))
    asked = {"replies": 100, "from_journal": 20, "cost": 0.5, "known_cost": 0.1}
    stage = {"seconds": 40.0, "summary": {"requests": {"g": asked}}}
    assert speed_served(stage, "g") == Speed(2.0, pytest.approx(6000))
    assert math.isnan(speed_served(stage, "h").cost) and math.isnan(speed_served({}, "g").records_per_second)
    run = RunFolder(tmp_path)
    assert kept_speed(run, "a", lambda: 3.0) == kept_speed(run, "a", lambda: 4.0) == 3.0
    assert kept_speed(run, "b", lambda: 5.0) == 5.0


def test_baselines_that_users_know_learn_words_and_vectors_and_see_no_held_out_label() -> None:
    rng = np.random.default_rng(0)
    words = ["alpha", "beta", "gamma", "delta", "omega", "sigma"]
    counts = rng.integers(0, 4, (80, len(words)))
    texts = {("s", f"r{i:03}"): " ".join(np.repeat(words, row)) or "none" for i, row in enumerate(counts)}
    scores = np.clip(5 + counts[:, 0] - counts[:, 1], 0, 10).astype(float)
    ids = [id for _, id in texts]
    split = ["held_out" if i % 4 == 0 else "train" for i in range(80)]

    def embed(read):
        found = np.array([[t.split().count(w) / max(len(t.split()), 1) for w in words] for t in read])
        return found

    def predicted(values):
        labels = pa.table(
            {"source": ["s"] * 80, "id": ids, "replicate": [0] * 80, "split": split, "n_tokens": [5] * 80, "A1": values}
        )
        return known_students(labels, texts, embed)

    found = predicted(scores)
    assert set(found.predictions) == {FASTTEXT, MODEL2VEC} == set(found.speeds)
    for name, p in found.predictions.items():
        assert p.held_out.num_rows == 20 and p.out_of_fold.num_rows == 80
        rho = np.corrcoef(p.out_of_fold["A1"].to_numpy(), scores)[0, 1]
        assert rho > 0.7, name
    spoiled = predicted(np.where(np.array(split) == "held_out", 10 - scores, scores))
    for name, p in found.predictions.items():
        assert p.held_out == spoiled.predictions[name].held_out, "held-out labels are not learnt from"
