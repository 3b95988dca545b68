import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mira.hashing import hash_ids, uniform
from mira.selection.ordering import gumbel, rank_keys, value_of_key

FLOATS = st.lists(st.floats(allow_nan=False), min_size=1, max_size=30)


@given(FLOATS)
def test_keys_sort_from_the_largest_value(values):
    array = np.array(values)
    keys = rank_keys(array)
    assert np.array_equal(array[np.argsort(keys, kind="stable")], np.sort(array)[::-1])
    assert [value_of_key(int(k)) for k in keys] == (array + 0.0).tolist()


def test_equal_values_have_equal_keys():
    assert len(set(rank_keys(np.array([0.0, -0.0])).tolist())) == 1


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20))
def test_a_hash_depends_on_its_id_alone(ids):
    together = hash_ids(pa.array(ids), 7, "s").tolist()
    alone = [int(hash_ids(pa.array([i]), 7, "s")[0]) for i in ids]
    sliced = hash_ids(pa.array(["x", *ids, "yy"])[1:-1], 7, "s").tolist()
    assert together == alone == sliced
    assert len(set(together)) == len(set(ids))


def test_a_hash_depends_on_seed_source_and_purpose():
    ids = pa.array(["a", "b"])
    hashes = [hash_ids(ids, 0, "s"), hash_ids(ids, 1, "s"), hash_ids(ids, 0, "t"), hash_ids(ids, 0, "s", "other")]
    assert len({int(h[0]) for h in hashes}) == 4


def test_hashes_never_change():
    ids = pa.array(["", "a", "12345678", "a longer id, of more than two words"])
    assert [f"{h:016x}" for h in hash_ids(ids, 0, "source").tolist()] == [
        "76fb41f327e968e2", "21e47cae026f1205", "0b2064babfd4c504", "25668196c613a7f4",
    ]  # fmt: skip


def test_uniform_and_gumbel_have_their_distributions():
    hashes = hash_ids(pa.array([str(i) for i in range(20_000)]), 0, "s")
    u, g = uniform(hashes), gumbel(hashes)
    assert u.min() > 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.std() - 12**-0.5) < 0.01
    assert abs(g.mean() - 0.5772) < 0.03 and abs(g.std() - np.pi / 6**0.5) < 0.03
    assert abs(np.corrcoef(u, g)[0, 1]) < 0.03
    assert uniform(np.array([0], np.uint64))[0] > 0 and uniform(np.array([2**64 - 1], np.uint64))[0] < 1
