import numpy as np

from mira.hashing import hash_spans


def hashes(data, spans):
    starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
    return hash_spans(np.frombuffer(data, np.uint8), starts, ends)


def test_equal_bytes_have_equal_hashes_wherever_they_stand():
    one, two = b"xxabcab", b"abc\0abc"
    assert len({*hashes(one, [(2, 5)]).tolist(), *hashes(two, [(0, 3), (4, 7)]).tolist()}) == 1


def test_spans_that_differ_in_length_or_order_have_different_hashes():
    data = b'!\0\0"!"ab\0ba'
    spans = [(a, b) for a in range(len(data)) for b in range(a + 1, len(data) + 1)]
    texts = [data[a:b] for a, b in spans]
    assert len(set(hashes(data, spans).tolist())) == len(set(texts))


def test_no_spans():
    assert hashes(b"", []).tolist() == hashes(b"abc", []).tolist() == []
