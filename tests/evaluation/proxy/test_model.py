"""The proxy's language model."""

import sys

import numpy as np
import pytest

from mira.errors import MiraError
from mira.evaluation.proxy.model import SEPARATOR, SIZES, Size, block_order, require_torch, train_and_measure, windows

TINY = Size(32, 1, 2, 64, 32, 8, 60, 1e-2, 10**6, 10**6)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 12, 13, 40, 41])
def test_every_byte_is_predicted_once_with_half_a_context(n):
    text = bytes(range(1, n + 1))
    predicted = []
    for inputs, targets in windows(text, 8):
        assert len(inputs) == len(targets) == 8
        at = np.flatnonzero(targets != -100)
        for k in at:
            behind = text[: targets[k] - 1][-(k + 1) :] if targets[k] > k + 1 else text[: targets[k] - 1]
            seen = [int(b) for b in inputs[: k + 1] if b != SEPARATOR]
            assert seen == list(behind)
            assert len(seen) >= min(4, targets[k] - 1)
        predicted += targets[at].tolist()
    assert predicted == list(text)


def test_no_window_of_nothing():
    assert windows(b"", 8) == []


def test_blocks_are_seen_equally_often():
    order = block_order(10, 35, 0)
    assert len(order) == 35
    assert all(sorted(order[k : k + 10]) == list(range(10)) for k in (0, 10, 20))
    assert not np.array_equal(order[:10], order[10:20])
    assert np.array_equal(order, block_order(10, 35, 0))
    assert not np.array_equal(order, block_order(10, 35, 1))


def test_sizes_are_what_they_are_called():
    assert 0.3e6 < SIZES["smoke"].parameters < 0.4e6
    assert 9.5e6 < SIZES["gpu"].parameters < 10.5e6
    # 6 operations a parameter and token, and attention's 12 * layers * width * context / 2, forward and backward
    size = SIZES["gpu"]
    a_token = 6 * size.parameters + 6 * size.layers * size.width * size.context
    assert 15 * size.tokens * a_token < 3600 * 40e12


def test_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MiraError, match="needs torch") as raised:
        require_torch()
    assert raised.value.hint == "pip install 'mira-select[train]', or in a checkout: pip install '.[train]'"


def test_parameters_are_counted(one_thread):
    from mira.evaluation.proxy import model as proxy_model

    for size in (SIZES["smoke"], TINY):
        model = proxy_model._model(size)
        assert sum(p.numel() for p in model.parameters()) == size.parameters


def stream(text, n=TINY.tokens):
    data = np.frombuffer(text.encode(), np.uint8).astype(np.int16)
    return np.tile(data, n // len(data) + 1)[:n]


def test_a_model_learns_what_it_reads(one_thread):
    alphabet, digits = stream("abcdefghijklmnop"), stream("0123456789")
    texts = [b"abcdefghijklmnop" * 20, b"0123456789" * 30]
    steps = []
    bits, loss = train_and_measure(alphabet, texts, TINY, 0, lambda: steps.append(1))
    per_byte = bits / [320, 300]
    assert len(steps) == TINY.steps
    assert per_byte[0] < 1
    assert per_byte[1] > 6
    assert loss < 1
    other, _ = train_and_measure(digits, texts, TINY, 0, lambda: None)
    assert other[1] / 300 < 1
    assert other[0] / 320 > 6


def test_the_same_seed_gives_the_same_model(one_thread):
    torch = one_thread
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    texts = [b"some text", b"another, longer text" * 5]
    found = [train_and_measure(stream("hello world, "), texts, TINY, seed, lambda: None) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected), "the caller's generator is left alone"
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert not np.array_equal(found[0][0], found[2][0])


def test_bits_do_not_depend_on_what_else_is_measured(one_thread):
    texts = [b"hello world, " * k for k in (1, 9, 4)]
    together, _ = train_and_measure(stream("hello world, "), texts, TINY, 0, lambda: None)
    alone, _ = train_and_measure(stream("hello world, "), texts[1:2], TINY, 0, lambda: None)
    assert together[1] == pytest.approx(alone[0], rel=1e-4)
    assert (together > 0).all()
