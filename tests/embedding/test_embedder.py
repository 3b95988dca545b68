import itertools

import pytest

from mira.embedding.embedder import average, sample_slices


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 25, 29, 30, 31, 1000])
@pytest.mark.parametrize("windows", [1, 2, 3])
def test_slices_cover_a_short_text_and_span_a_long_one(length: int, windows: int) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(length))
    slices = sample_slices(text, windows, 10)
    assert 1 <= len(slices) <= windows
    assert all(len(s) <= 10 for s in slices)
    assert text.startswith(slices[0])
    if length <= 10 * windows:
        assert "".join(slices) == text
    elif windows > 1:
        starts = [text.index(s) for s in slices]
        assert all(b - a >= 10 for a, b in itertools.pairwise(starts))
        assert text.endswith(slices[-1])


def test_average_weighs_windows_and_normalises() -> None:
    import numpy as np

    vectors = np.array([[1, 0], [0, 1], [0, 2]], dtype=np.float32)
    rows = average(vectors, [2, 1], [3.0, 4.0, 1.0])
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 1]], atol=1e-6)
    assert rows.dtype == np.float32
