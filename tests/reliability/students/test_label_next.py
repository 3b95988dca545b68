from math import atanh, sqrt, tanh

import numpy as np
import pytest
from scipy.special import ndtri

from mira.config.settings import ReliabilitySettings
from mira.reliability.cells import Measure, measure_group
from mira.reliability.evidence import Predictions, collect
from mira.reliability.masking import Reason, Verdict
from mira.reliability.students.label_next import LabelPlan, LabelStep, Need, label_next, need, needed_labels
from mira.reliability.students.notes import _label
from support.simulate import labels, pair, predictions

SETTINGS = ReliabilitySettings()


def lower(rho, n):
    return tanh(atanh(rho) - ndtri(0.95) / sqrt(n - 3))


def verdict(rho, low, n, reason=None, level="cell"):
    measure = Measure(n, 1.0, 1.5, rho, low, rho + 0.1, 1.0, 1.0, 0.2)
    return Verdict(level, measure, reason, None if reason is None else f"{reason}: ...")


def test_the_number_is_that_at_which_the_bound_passes():
    total = needed_labels(0.45, lower(0.45, 40), 40, 0.3)
    assert lower(0.45, total) >= 0.3 > lower(0.45, total - 1)
    assert total > 40
    assert needed_labels(0.45, 0.3, 40, 0.3) == 40
    assert needed_labels(0.29, 0.1, 40, 0.3) is None
    assert needed_labels(0.3001, 0.1, 40, 0.3) is None  # more than a million


def test_simulated_cells_pass_at_about_even_odds_with_that_many_labels():
    rng = np.random.default_rng(0)

    def low(n, seed):
        teacher, student = pair(n, 0.45, rng)
        evidence = collect(
            "g", ["s"], ["a"], labels({"a": teacher[:, None]}), Predictions(predictions({"a": student[:, None]}))
        )
        return measure_group(evidence, bootstrap=200, confidence=0.9, seed=seed).cells[0][0]

    started = [low(60, i) for i in range(60)]
    middle = sorted(started, key=lambda m: abs(m.rho - 0.45))[0]
    total = needed_labels(middle.rho, middle.low, 60, 0.3)
    assert 60 < total < 250
    passed = np.mean([low(total, 100 + i).low >= 0.3 for i in range(60)])
    assert 0.3 < passed < 0.75
    assert np.mean([m.low >= 0.3 for m in started]) < passed


def test_cells_get_the_outlook_that_their_verdict_deserves():
    weak = need("A1", "x", 60, verdict(0.45, 0.26, 60, Reason.WEAK), SETTINGS)
    assert weak.outlook == "masked" and weak.labels > 0 and 0.5 < weak.chance < 1
    assert need("A1", "x", 60, verdict(0.45, 0.26, 60, Reason.WEAK), SETTINGS, share=0.2).labels == 5 * weak.labels
    assert need("A2", "x", 60, verdict(0.8, 0.7, 60), SETTINGS) is None
    near = need("A2", "x", 60, verdict(0.5, 0.31, 60), SETTINGS)
    assert near.outlook == "near" and near.labels > 0
    for reason in (Reason.COLLAPSED, Reason.NO_SKILL, Reason.UNDEFINED):
        assert need("A3", "x", 60, verdict(0.5, 0.2, 60, reason), SETTINGS).outlook == "hopeless"
    low = need("A4", "x", 60, verdict(0.2, 0.0, 60, Reason.WEAK), SETTINGS)
    assert (low.outlook, low.labels) == ("hopeless", None) and low.chance < 0.5
    few = need("A5", "x", 4, Verdict("none", None, Reason.TOO_FEW, "too few labels: ..."), SETTINGS)
    assert (few.outlook, few.labels) == ("too few to tell", SETTINGS.min_n - 4)
    pooled = need("A6", "x", 4, verdict(0.6, 0.29, 35, Reason.WEAK, "group"), SETTINGS)
    assert pooled.labels >= SETTINGS.min_n - 4


def cell(slot, outlook, labels, chance=0.8):
    return Need(slot, slot, outlook, labels, chance, "why")


def test_only_what_a_source_has_is_said_to_be_labelled_next():
    def plan(source, unlabelled, *steps):
        more = [LabelStep(labels, slots) for labels, slots in steps]
        enough = more[-1].labels <= unlabelled
        return LabelPlan(
            source,
            more[-1].labels,
            more[-1].unmasks,
            None,
            1.0,
            unlabelled,
            enough,
            more,
            near=[],
            too_few=[],
            hopeless=[],
        )

    small = plan("small", 1340, (900, ["A1"]), (1380, ["A1", "A2"]))
    assert list(_label([small])) == ["label next: 900 records of small would unmask A1 at about even odds"]
    big = plan("big", 5000, (300, ["A3"]))
    assert list(_label([small, big])) == ["label next: 300 records of big would unmask A3 at about even odds"]
    (none,) = _label([plan("tiny", 10, (200, ["A1"]))])
    assert "no source has enough" in none
    assert "tiny would need 200 and has 10" in none


def test_sources_are_ranked_by_cells_per_label():
    needs = {
        "dear": [cell("A1", "masked", 500), cell("A2", "masked", 900)],
        "cheap": [cell("A1", "masked", 90), cell("A2", "masked", 100), cell("A3", "masked", 5000)],
        "lost": [cell("A1", "hopeless", None, None), cell("A2", "too few to tell", 20, None)],
        "safe": [],
        "barely": [cell("A1", "near", 30)],
    }
    plans = label_next(needs, {"dear": 10_000, "cheap": 95})
    assert [p.source for p in plans] == ["cheap", "dear", "barely", "lost", "safe"]
    cheap, dear, barely, lost, _ = plans
    assert (cheap.labels, cheap.unmasks, cheap.enough) == (100, ["A1", "A2"], False)
    assert cheap.per_100 == pytest.approx(2.0) and cheap.chance == pytest.approx(0.8)
    assert [m.labels for m in cheap.more] == [90, 100, 5000]
    assert (dear.labels, dear.unmasks, dear.enough) == (900, ["A1", "A2"], True)
    assert barely.labels == 0 and barely.near[0].labels == 30
    assert [len(getattr(lost, k)) for k in ("hopeless", "too_few", "near")] == [1, 1, 0]
