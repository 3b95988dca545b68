from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mira.embedding.kept import keeping_vectors


class Letters:
    """An embedder by counts of letters, which notes what it is asked."""

    dim = 26

    def __init__(self, identity: str = "letters") -> None:
        self.identity, self.asked = identity, list[str]()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        rows = np.array([[text.count(chr(97 + i)) + 0.1 for i in range(26)] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _embed(path: Path, texts: list[str], identity: str = "letters") -> list[str]:
    """Return which texts were embedded; the vectors are those of the embedder itself, to the last bit."""
    embedder = Letters(identity)
    with keeping_vectors(embedder, path) as kept:
        assert (kept.identity, kept.dim) == (identity, 26)
        found = kept.embed(texts)
    assert found.tobytes() == Letters().embed(texts).tobytes()
    return embedder.asked


def test_a_text_is_embedded_once(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    assert _embed(path, ["ab", "c", "ab"]) == ["ab", "c"]
    assert _embed(path, ["c", "d", "ab", "\ud800"]) == ["d", "\ud800"]
    assert _embed(path, ["d"]) == []
    assert _embed(path, ["ab", "d"]) == ["ab"]  # nobody asked for it in between
    assert _embed(path, ["ab"], "another") == ["ab"]


def test_a_text_that_comes_again_in_one_go_is_embedded_once(tmp_path: Path) -> None:
    embedder = Letters()
    with keeping_vectors(embedder, tmp_path / "vectors") as kept:
        first = kept.embed(["a", "b"])
        assert (kept.embed(["b", "a"]) == first[::-1]).all()
        assert kept.embed([]).shape == (0, 26)
    assert embedder.asked == ["a", "b"]


def test_after_an_error_the_last_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    _embed(path, ["a"])
    with pytest.raises(ZeroDivisionError), keeping_vectors(Letters(), path) as kept:
        kept.embed(["b"])
        1 / 0  # noqa: B018
    assert _embed(path, ["a"]) == []
    assert [p.name for p in tmp_path.iterdir()] == ["vectors"]


@pytest.mark.parametrize("at", [0, 5, 18, 60, -1])
def test_a_damaged_row_is_made_anew(tmp_path: Path, at: int) -> None:
    path = tmp_path / "vectors"
    _embed(path, ["a", "b"])
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    assert len(_embed(path, ["a", "b"])) == 1
    path.write_bytes(path.read_bytes()[:-7])
    assert len(_embed(path, ["a", "b"])) == 1
    path.write_bytes(b"x" * 50)
    assert _embed(path, ["a", "b"]) == ["a", "b"]
