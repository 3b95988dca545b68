import numpy as np
import pytest

from mira.config.settings import SelectSettings
from mira.corpus.record import Part, Record
from mira.evaluation.faults import Fault
from mira.evaluation.planted import by_length, judge_scorer, measure_planted, plant
from mira.family import FamilyName
from mira.rubric.judgement import Judgement
from mira.selection.yardstick.yardsticks import Yardstick
from mira.stats import wilson
from mira.unscored import Unscored

WORDS = "a sentence with words of its own that nobody repeats "


def records(n, source="docs"):
    text = "\n".join(f"{WORDS}{i}" for i in range(12))
    return [Record(f"{source}{i}", source, FamilyName.TEXT, (Part("", f"{i}\n{text}"),)) for i in range(n)]


def by_words(found):
    """Sees garbage and advertisements, and nothing else."""
    return np.array([float(r.text.count(WORDS) > 8) for r in found])


def figures(pairs, scorer, **options):
    return {f.fault: f for f in measure_planted(pairs, scorer, **options)}


def test_a_scorer_is_credited_with_what_it_sees():
    found = figures(plant(records(10)), by_words, thresholds={"docs": 0.5})
    garbage, shuffled = found["garbage"], found["shuffled"]
    assert (garbage.pairs, garbage.accuracy, garbage.recall, garbage.originals_dropped) == (10, 1.0, 1.0, 0.0)
    assert (garbage.accuracy_low, garbage.accuracy_high) == wilson(10, 10)
    assert (shuffled.accuracy, shuffled.recall) == (0.5, 0.0)
    assert found["all"].pairs == 10 * len(Fault)
    assert 0.5 < found["all"].recall < 1


def test_pooled_faults_are_as_sure_as_their_originals_are_many():
    """A scorer that is right about all copies of half the originals: 6 pairs of one original are one observation."""
    pairs = plant(records(60))
    right = {p.degraded.id: float(int(p.original.id[4:]) % 2) for p in pairs}
    found = figures(pairs, lambda seen: np.array([right.get(r.id, 0.5) for r in seen]), thresholds={"docs": 0.25})
    pooled, naive = found["all"], wilson(180, 360)
    for share, low, high in (
        (pooled.accuracy, pooled.accuracy_low, pooled.accuracy_high),
        (pooled.recall, pooled.recall_low, pooled.recall_high),
    ):
        assert share == 0.5
        assert high - low > 2 * (naive[1] - naive[0])  # wider by the root of 6
        assert (low, high) == pytest.approx(wilson(30, 60), abs=0.03)
    single = found["garbage"]
    assert (single.accuracy_low, single.accuracy_high) == wilson(30, 60)


def test_pooled_faults_that_are_all_seen_are_still_not_certain():
    found = figures(plant(records(10)), lambda seen: np.array([float("~" not in r.id) for r in seen]))
    assert (found["all"].accuracy, found["all"].accuracy_low) == (1.0, wilson(10, 10)[0])


def test_length_sees_truncation_only():
    found = figures(plant(records(20)), by_length)
    assert found["truncated"].accuracy == 1.0
    assert found["shuffled"].accuracy == 0.5
    assert found["truncated"].recall is None and found["truncated"].originals_dropped is None


def test_recall_counts_only_sources_with_a_threshold():
    pairs = plant([*records(4), *records(6, "tests")], [Fault.GARBAGE])
    found = figures(pairs, by_words, thresholds={"docs": 2.0})["garbage"]
    assert found.pairs == 10
    assert (found.recall, found.recall_low) == (1.0, wilson(4, 4)[0])
    assert found.originals_dropped == 1.0


def test_unscored_copies_are_dropped_but_compared_with_nothing():
    def scorer(found):
        return np.array([np.nan if "~" in r.id and r.id.startswith("docs0") else float("~" not in r.id) for r in found])

    found = figures(plant(records(5), [Fault.GARBAGE]), scorer, thresholds={"docs": 0.5})["garbage"]
    assert (found.pairs, found.unscored, found.accuracy, found.recall) == (5, 1, 1.0, 1.0)
    assert found.accuracy_low == wilson(4, 4)[0]


def test_nothing_planted():
    (nothing,) = measure_planted([], by_length)
    assert (nothing.fault, nothing.pairs, nothing.accuracy, nothing.recall) == ("all", 0, None, None)


class Backwards:
    """A judge that answers in reverse order and leaves records out of its depth unscored."""

    identity = "backwards"
    n_slots = 3

    def judge(self, tasks):
        for task in reversed(list(tasks)):
            if task.record.id == "docs1":
                yield Judgement.unscored("docs1", "docs", 3, Unscored.OVERFLOW)
            else:
                number = float(task.record.id[-1])
                yield Judgement(task.record.id, task.record.source, (number, 10.0, None))


def test_a_judge_is_scored_as_selection_does():
    docs, tests = Yardstick(("A1", "A2")), Yardstick(("A2",))
    yardsticks = {"docs": docs, "tests": tests, "masked": Yardstick()}
    found = [*records(3), *records(1, "tests"), *records(1, "masked")]
    quality = judge_scorer(Backwards(), yardsticks, SelectSettings(trim=0.1, min_slots=1))(found)
    np.testing.assert_array_equal(quality, [5.0, np.nan, 6.0, 10.0, np.nan])
    every = {"docs": Yardstick(("A1", "A2", "A3"))}
    strict = judge_scorer(Backwards(), every, SelectSettings(trim=0.0, min_slots=3))(records(1))
    assert np.isnan(strict).all()


@pytest.mark.parametrize("n", [1, 7])
def test_every_record_is_scored_once(n):
    seen = []

    def scorer(found):
        seen.extend(r.id for r in found)
        return np.ones(len(found))

    pairs = plant(records(n))
    measure_planted(pairs, scorer)
    assert len(seen) == len(set(seen)) == n + len(pairs)
