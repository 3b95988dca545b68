from dataclasses import replace

from mira.evaluation.findings import planted_findings
from mira.evaluation.results import PlantedFigures


def figures(**accuracies):
    accuracies["all"] = (0.4, 0.3, 0.5)
    return [
        PlantedFigures(f, accuracy=a, accuracy_low=low, accuracy_high=high) for f, (a, low, high) in accuracies.items()
    ]


MIRA = figures(boilerplate=(0.45, 0.36, 0.55), off_family=(0.51, 0.42, 0.6), truncated=(0.87, 0.79, 0.92))


def test_what_the_students_do_not_see_and_who_sees_more():
    ppl = figures(boilerplate=(0.97, 0.92, 0.99), off_family=(1.0, 0.96, 1.0), truncated=(0.18, 0.12, 0.27))
    unseen, more = planted_findings({"mira": MIRA, "length": figures(truncated=(1.0, 0.96, 1.0)), "ppl": ppl}, {})
    assert unseen.startswith("The students do not see boilerplate (45%) and off family (51%): ")
    assert more.startswith("ppl sees more than the students do of boilerplate (97%) and off family (100%). ")
    assert "select.gates: [{value: ppl, drop: 10%}]" in more


def test_a_better_share_that_may_be_chance_is_no_finding():
    dsir = figures(boilerplate=(0.6, 0.52, 0.68), truncated=(0.95, 0.9, 0.99))
    told = planted_findings({"mira": MIRA, "dsir": dsir}, {})
    assert len(told) == 1  # boilerplate's intervals overlap, and so do those of truncated


def test_nothing_to_tell():
    good = figures(garbage=(0.9, 0.8, 0.95))
    nothing = [PlantedFigures("garbage")]
    assert planted_findings({"mira": good, "random": figures(garbage=(1.0, 0.99, 1.0)), "dsir": nothing}, {}) == []
    assert planted_findings({}, {}) == planted_findings({"mira": nothing, "ppl": good}, {"ant": nothing[0]}) == []


def test_three_faults_are_listed_in_words():
    three = figures(a=(0.5, 0.4, 0.6), b=(0.5, 0.4, 0.6), c_d=(0.5, 0.4, 0.6))
    assert "a (50%), b (50%) and c d (50%)" in planted_findings({"mira": three}, {})[0]


def test_sources_in_which_the_faults_are_not_seen():
    whole = PlantedFigures("all", accuracy=0.9, accuracy_low=0.8, accuracy_high=0.95)
    told = planted_findings(
        {"mira": []}, {"ant": whole, "bee": replace(whole, accuracy=0.17, accuracy_low=0.1, accuracy_high=0.3)}
    )
    assert told == ["All faults together, the students do not see them in bee (17%)."]


def test_too_few_pairs_to_tell_is_not_the_same_as_unseen():
    few = figures(garbage=(0.6, 0.39, 0.78), off_family=(0.51, 0.42, 0.6), truncated=(0.87, 0.79, 0.92))
    whole = PlantedFigures("all", accuracy=1.0, accuracy_low=0.44, accuracy_high=1.0)
    unseen, unclear = planted_findings({"mira": few}, {"ant": whole})
    assert unseen.startswith("The students do not see off family (51%)")
    assert unclear.startswith(
        "Too few pairs to tell whether the students see garbage (60%) and all faults in ant (100%):"
    )
    assert "evaluate.planted" in unclear


def test_pairs_are_too_few_where_guessing_and_seeing_half_both_fit():
    at = [PlantedFigures("f", accuracy_low=low, accuracy_high=high).too_few for low, high in
          ((0.5, 0.75), (0.51, 0.9), (0.3, 0.74), (None, None))]  # fmt: skip
    assert at == [True, False, False, False]
