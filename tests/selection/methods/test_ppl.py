import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.errors import ConfigError, InputError
from mira.selection.methods.byte_model import ByteModel
from mira.selection.methods.ppl import bits_per_byte
from support.selection_world import Item, World

TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "żółć gęślą", "a", "the the the"]


def plainly(texts, order, context, byte):
    """Witten-Bell, straight from the formula."""
    p = 1 / 256
    padded = [bytes(order - 1) + t.encode() for t in texts]
    for k in range(1, order + 1):
        head = context[len(context) - k + 1 :] if k > 1 else b""
        followers = Counter(
            text[i] for text in padded for i in range(order - 1, len(text)) if text[i - k + 1 : i] == head
        )
        if not followers:
            return p
        n, t = followers.total(), len(followers)
        p = (followers[byte] + t * p) / (n + t)
    return p


@settings(max_examples=30)
@given(st.integers(1, 4), st.text("the catsż", min_size=1, max_size=8))
def test_bits_follow_the_formula(order, text):
    model = ByteModel.train(TEXTS, order)
    data = bytes(order - 1) + text.encode()
    expected = [
        -math.log2(plainly(TEXTS, order, data[i - order + 1 : i], data[i])) for i in range(order - 1, len(data))
    ]
    assert np.allclose(model.byte_bits(text.encode()), expected)


@pytest.mark.parametrize("context", [b"", b"th", b"zzzz", b"the "])
def test_probabilities_of_the_next_byte_add_up_to_one(context):
    model = ByteModel.train(TEXTS, 4)
    total = sum(2.0 ** -model.byte_bits(context + bytes([byte]))[-1] for byte in range(256))
    assert abs(total - 1) < 1e-9


def test_a_long_text_is_the_sum_of_its_bytes(monkeypatch):
    from mira.selection.methods import byte_model

    model = ByteModel.train(TEXTS, 5)
    text = "the cat sat on the dog " * 20
    whole = model.byte_bits(text.encode()).sum()
    monkeypatch.setattr(byte_model, "_PIECE", 7)
    assert np.allclose(model.text_bits([text])[0][0], whole)


def test_a_model_of_nothing_knows_nothing():
    assert ByteModel.train([], 3).byte_bits(b"abc").tolist() == [8.0, 8.0, 8.0]


def test_a_saved_model_says_the_same(tmp_path):
    model = ByteModel.train(TEXTS, 6)
    model.save(tmp_path / "model.npz")
    texts = ["the cat", "", "unseen ☃ text"]
    bits, n_bytes = model.text_bits(texts)
    assert n_bytes.tolist() == [7, 0, 15]
    assert np.allclose(bits_per_byte(tmp_path / "model.npz", texts), bits / np.maximum(n_bytes, 1))


@pytest.fixture
def world(tmp_path):
    plain = [Item(f"plain{i:02d}", [5.0], f"the report of day {i} is that all is well today. " * 3) for i in range(40)]
    rng = random.Random(0)
    odd = [Item(f"odd{i:02d}", [5.0], "".join(chr(rng.randrange(33, 123)) for _ in range(150))) for i in range(10)]
    return World(tmp_path, {"ant": [plain[:15] + odd, plain[15:]]}, {"g": ["ant"]})


def kept(world, **ppl):
    world.select(method="ppl", budget="40%", ppl={"sample": 30, **ppl})
    return {id_ for _, id_ in world.kept()}


def test_low_keeps_the_usual_and_high_the_unusual(world):
    assert all(id_.startswith("plain") for id_ in kept(world, slice="low"))
    assert {f"odd{i:02d}" for i in range(10)} & kept(world, slice="high")


def test_a_record_is_not_measured_by_a_model_that_was_trained_on_it(world):
    kept(world, sample=1000)
    bits = {r["id"]: -r["quality"] for r in world.rows("ant")}
    assert min(b for i, b in bits.items() if i.startswith("odd")) > max(
        b for i, b in bits.items() if i.startswith("plain")
    )


def test_middle_keeps_what_is_nearest_to_the_median(world):
    kept(world, slice="low")
    bits = {r["id"]: -r["quality"] for r in world.rows("ant")}
    chosen = kept(world, slice="middle")
    rows = sorted(world.rows("ant"), key=lambda r: bits[r["id"]])
    half, tokens = 0, sum(r["n_tokens"] for r in rows) / 2
    for row in rows:
        half += row["n_tokens"]
        if half > tokens:
            break
    away = {id_: abs(b - bits[row["id"]]) for id_, b in bits.items()}
    inside, outside = [away[i] for i in chosen], [away[i] for i in bits if i not in chosen]
    assert np.mean(inside) < np.mean(outside)
    assert max(inside) <= min(outside) + 0.05  # the median of the ranking is between two records


def test_the_model_is_trained_once_and_again_for_another_order(world):
    kept(world)
    path = world.run.path / "values" / "ppl" / "model_0.npz"
    before = path.stat().st_mtime_ns
    kept(world, slice="high")
    assert path.stat().st_mtime_ns == before
    kept(world, order=3)
    assert path.stat().st_mtime_ns != before


def test_a_reference_of_ones_own(world):
    (world.folder / "own.jsonl").write_text("".join(f'{{"id": "{i}", "text": "{{}}[]()#$%&*!"}}\n' for i in range(20)))
    world.select(method="ppl", budget="5%", ppl={"reference": {"name": "own", "path": str(world.folder / "own.jsonl")}})
    assert all(id_.startswith("odd") for _, id_ in world.kept())


def test_a_model_that_is_not_there_is_told(world):
    with pytest.raises(InputError, match="nowhere"):
        kept(world, model="nowhere.arpa")


ARPA = """
\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.0\t<unk>\t0
0\t<s>\t-0.3
-1.0\t</s>\t0
-0.5\tthe\t-0.3
-0.7\tcat\t-0.3

\\2-grams:
-0.1\t<s> the
-0.2\tthe cat

\\end\\
"""


def test_a_kenlm_model_is_used_or_asked_for(world):
    path = world.folder / "model.arpa"
    path.write_text(ARPA)
    try:
        import kenlm  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"mira-select\[ppl\]"):
            kept(world, model=str(path))
        return
    bits = (0.1 + 0.2 + 0.3 + 1.0) * math.log2(10)
    assert np.allclose(bits_per_byte(path, ["the\n cat"]), bits / 8)
    assert kept(world, model=str(path))


def test_a_folder_is_a_causal_lm_which_may_have_to_be_installed(world):
    folder = world.folder / "lm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"mira-select\[train\]"):
            kept(world, model=str(folder))
        return
    with pytest.raises(InputError, match="not a causal LM"):
        kept(world, model=str(folder))
