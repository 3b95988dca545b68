import numpy as np
import pytest

from mira.distillation.encoder.curve import learning_curve, power_law
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.progress import Quiet
from support.encoder_case import N_SLOTS, corpus, label_table


def test_power_law_is_found_again() -> None:
    sizes = np.array([20.0, 40, 80, 160])
    limit, gain, power = power_law(sizes, 0.9 - 2 * sizes**-0.5)
    assert (limit, gain, power) == pytest.approx((0.9, 2.0, 0.5), abs=1e-3)
    assert power_law(sizes, 0.8 + 0.05 * np.arange(4))[0] <= 1


def test_more_labels_help_and_the_held_out_split_is_not_touched() -> None:
    records, scores = corpus(180)
    labels = label_table(records, scores[:, [0, 1, 1, 3]])
    training = [r for i, r in enumerate(records) if i % 5]
    curve = learning_curve(labels, training, N_SLOTS, FeatureBlocks(), "ranks", None, 4, 0, Quiet(), repeats=2)
    points = curve["points"]
    assert [p["labels"] for p in points] == pytest.approx([13.5, 27, 54, 108], abs=0.5)
    assert points[-1]["rho"] > points[0]["rho"] + 0.05
    assert [p["labels"] for p in curve["projection"]] == [216, 432, 864]
    assert all(p["rho_low"] <= p["rho"] <= p["rho_high"] <= 1 for p in curve["projection"])
