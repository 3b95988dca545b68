import numpy as np
import pytest

from mira.report.charts import HEAT_STEPS, bars, heat_step, place, stack, ticks


def test_stack_fills_the_bar_and_leaves_out_nothing_else_than_zeros():
    segments = stack([("kept", 3), ("dropped", 0), ("rejected", 1)])
    assert [(s.kind, s.value, s.x, s.width) for s in segments] == [("kept", 3, 0, 75), ("rejected", 1, 75, 25)]
    assert stack([("kept", 0)]) == ()


def test_bars_put_dropped_on_kept():
    found = bars(np.array([1, 0, 2]), np.array([3, 0, 0]))
    assert [(b.kind, b.y, b.height) for b in found] == [("kept", 75, 25), ("dropped", 0, 75), ("kept", 50, 50)]
    assert found[2].x == pytest.approx(200 / 3, abs=1e-3)
    assert bars(np.zeros(2, np.int64), np.zeros(2, np.int64)) == ()


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.3, 8.4, ["2", "4", "6", "8"]),
        (-0.11, 0.2, ["-0.1", "0.0", "0.1", "0.2"]),
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (1.0, 1.0, ["1"]),
        (-30000, 100, ["-30000", "-20000", "-10000", "0"]),
    ],
)
def test_ticks_are_round_and_inside(low, high, labels):
    found = ticks(low, high)
    assert [t.label for t in found] == labels
    assert all(0 <= t.x <= 100 for t in found)


def test_place_and_heat_steps():
    assert place(5, 0, 10) == 50 and place(-1, 0, 10) == 0 and place(99, 0, 10) == 100 and place(3, 3, 3) == 50
    assert [heat_step(x) for x in (None, -0.5, 0.0, 0.5, 1.0, 1.4)] == [None, 0, 0, HEAT_STEPS // 2, 8, 8]
