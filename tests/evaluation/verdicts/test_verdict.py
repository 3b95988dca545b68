"""The verdict on a student, from measured figures."""

from mira.evaluation.findings import verdicts
from mira.evaluation.results import Estimate, PlantedFigures, StudentResult
from mira.evaluation.verdicts.verdict import NOT_EVALUATED, Share, Verdict, verdict, verdict_of_all

SEEN, UNSEEN = Share(0.9, 0.8, 0.95, 40), Share(0.5, 0.4, 0.6, 40)
WORSE, FEW = Share(0.1, 0.05, 0.2, 40), Share(0.6, 0.3, 0.8, 9)


def test_what_is_not_seen_is_named_with_its_share() -> None:
    faults = {"garbage": SEEN, "code_mutant": UNSEEN, "negated": WORSE, "near_answer": FEW}
    found = verdict((0.7, 0.65, 0.75), (0.95, 0.92, 0.99), faults, "abc")
    assert found.text == (
        "orders like the teacher (rho 0.70 [0.65, 0.75], 95% [92%, 99%] of the teacher's own agreement); "
        "does not see code mutant (50%); ranks higher negated (10%); too few pairs to tell about near answer (60%)"
    )
    assert found.student == "abc" and found.faults == faults


def test_how_far_it_orders_like_the_teacher() -> None:
    def order(rho: tuple[float, float, float] | None, share: tuple[float, float, float] | None = None) -> str:
        return verdict(rho, share, {}).text.partition(" (")[0]

    assert order((0.7, 0.65, 0.75), (0.8, 0.75, 0.85)) == "orders much like the teacher"
    assert order((0.3, 0.2, 0.4), (0.4, 0.3, 0.5)) == "orders somewhat like the teacher"
    assert order((0.3, 0.2, 0.4)) == "orders somewhat like the teacher"
    assert order((0.1, -0.1, 0.3), (0.2, -0.2, 0.5)) == "does not order like the teacher"
    assert order(None) == "was not compared with the teacher"


def test_all_groups_are_told_by_how_they_order() -> None:
    good, poor = verdict((0.7, 0.6, 0.8), (0.8, 0.7, 0.9), {}), verdict((0.1, -0.1, 0.3), None, {})
    found = verdict_of_all({"a": good, "b": poor, "c": good}, {"garbage": SEEN})
    assert found.text == (
        "orders much like the teacher in a (80% of the teacher's own agreement), "
        "c (80% of the teacher's own agreement); does not order like the teacher in b; "
        "sees every planted fault: garbage (90%)"
    )
    assert verdict_of_all({}, {}).text == Verdict().text == NOT_EVALUATED


def test_figures_without_a_value_are_left_out() -> None:
    students = {"a": {"student": StudentResult(rho=Estimate(0.7, 0.6, 0.8))}}
    figures = [PlantedFigures("garbage", accuracy=0.9, accuracy_low=0.8, accuracy_high=1.0), PlantedFigures("x")]
    found = verdicts(students, {"a": figures, "all": []}, {"a": "1", "b": "2"})
    assert list(found) == ["a", "b", "all"] and list(found["a"].faults) == ["garbage"]
    assert found["a"].rho == (0.7, 0.6, 0.8) and found["b"].text == "was not compared with the teacher"
