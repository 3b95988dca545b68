"""Bits per byte under a real, tiny causal LM in a folder."""

import math

import pytest

from mira.errors import InputError
from mira.selection.methods import ppl_local
from mira.selection.methods.ppl import bits_per_byte
from support import tiny_lm
from support.selection_world import Item, World

tiny_lm.needs_training()
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

TEXTS = ["the cat sat on the mat", "żółć gęślą jaźń", "def f(x): return x + 1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_lm.save(tmp_path_factory.mktemp("lm") / "m", TEXTS, context=64)


def plainly(folder, text, ids=None):
    """All logits at once, one softmax a place."""
    ids = ids or AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        places = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    return -sum(places[at, id_].item() for at, id_ in enumerate(ids[1:])) / math.log(2) / len(text.encode())


def test_bits_are_those_of_the_plain_formula_in_pieces_of_any_size(folder, monkeypatch):
    expected = [plainly(folder, text) for text in TEXTS]
    for piece in (512, 3):
        monkeypatch.setattr(ppl_local, "_PIECE", piece)
        assert list(ppl_local.causal_lm(folder)(TEXTS)) == pytest.approx(expected, rel=1e-4)


def test_a_long_text_is_measured_up_to_the_context(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "the cat sat on the mat. " * 50
    ids = tokenizer(text)["input_ids"][:64]
    assert bits_per_byte(folder, [text])[0] == pytest.approx(plainly(folder, tokenizer.decode(ids), ids), rel=1e-4)


def test_selection_by_a_local_model(tmp_path, folder):
    items = [Item(f"r{i}", [5.0], text) for i, text in enumerate([*TEXTS, "a"])]
    world = World(tmp_path, {"ant": [items]}, {})
    world.select(method="ppl", scope="global", budget="50%", ppl={"model": str(folder)})
    found = {row["id"]: row["quality"] for row in world.rows("ant")}
    assert [-found[f"r{i}"] for i in range(3)] == pytest.approx([plainly(folder, t) for t in TEXTS], rel=1e-4)
    assert world.record("r3")["reason"] == "unscored:too_short"


def test_a_folder_without_a_model_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not a causal LM"):
        bits_per_byte(tmp_path, ["a"])
