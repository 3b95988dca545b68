import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mira.selection.exact_moments import Moments


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.randoms())
def test_sums_do_not_depend_on_order_or_batches(values, random):
    shuffled = values[:]
    random.shuffle(shuffled)
    cut = random.randrange(len(values) + 1)
    parts = [Moments.of(np.array(part, np.float64)) for part in (shuffled[:cut], shuffled[cut:])]
    assert parts[0] + parts[1] == Moments.of(np.array(values))
    moments = Moments.of(np.array(values))
    assert np.isclose(moments.mean, np.mean(values), rtol=1e-9, atol=1e-300)
    assert np.isclose(moments.deviation, np.std(values), rtol=1e-6, atol=1e-6 * max(map(abs, values)))


def test_nothing_has_mean_and_deviation_zero():
    assert (Moments().mean, Moments().deviation) == (0.0, 0.0)
