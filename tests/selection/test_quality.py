import math
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.errors import RunError
from mira.run_folder.paths import RunFolder
from mira.selection.quality import load_mask, trim_count, trimmed_mean

SCORE = st.one_of(st.floats(0, 10, width=32), st.just(math.nan), st.just(math.inf))


def plainly(scores, trim, min_slots):
    scored = sorted(s for s in scores if math.isfinite(s))
    if len(scored) < max(1, min(min_slots, len(scores))):
        return math.nan
    cut = int(trim * len(scored) + 1e-9)
    middle = scored[cut : len(scored) - cut]
    return reduce(add, middle) / len(middle)  # not sum, which compensates for rounding since Python 3.12


@given(
    st.integers(1, 17).flatmap(
        lambda slots: st.lists(st.lists(SCORE, min_size=slots, max_size=slots), min_size=1, max_size=20)
    ),
    st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.49]),
    st.integers(1, 5),
)
def test_the_trimmed_mean_is_the_plain_one_whatever_the_batch(rows, trim, min_slots):
    columns = [np.array(c, np.float32) for c in zip(*rows, strict=True)]
    quality, scored = trimmed_mean(columns, trim, min_slots)
    assert np.array_equal(quality, [plainly(row, trim, min_slots) for row in rows], equal_nan=True)
    assert scored.tolist() == [sum(map(math.isfinite, row)) for row in rows]
    alone = [trimmed_mean([c[i : i + 1] for c in columns], trim, min_slots)[0][0] for i in range(len(rows))]
    assert np.array_equal(quality, alone, equal_nan=True)
    backwards = trimmed_mean(columns[::-1], trim, min_slots)[0]
    assert np.array_equal(quality, backwards, equal_nan=True)


def test_the_input_is_left_as_it_is():
    column = np.array([3, 1, math.nan], np.float32)
    trimmed_mean([column, column + 1], 0.1, 1)
    assert np.array_equal(column, np.array([3, 1, math.nan], np.float32), equal_nan=True)


def test_trim_count_survives_rounding():
    assert [trim_count(0.1, 9), trim_count(0.1, 10), trim_count(0.29, 100), trim_count(0.2, 15)] == [0, 1, 29, 3]


def test_the_mask_has_slots_in_order_and_empty_sources(tmp_path):
    run = RunFolder(tmp_path)
    cells = [("s", f"A{i}", i == 3) for i in (11, 2, 1, 10, 3)] + [("t", "A1", True)]
    pq.write_table(
        pa.table([list(c) for c in zip(*cells, strict=True)], names=["source", "slot", "masked"]), run.reliability
    )
    assert load_mask(run) == {"s": ("A1", "A2", "A10", "A11"), "t": ()}


def test_a_missing_reliability_table_is_told(tmp_path):
    with pytest.raises(RunError, match="mira reliability"):
        load_mask(RunFolder(tmp_path))
