from pathlib import Path

import numpy as np
import pytest

from mira import plugins
from mira.config.settings import EmbeddingSettings
from mira.embedding import MiniLM, StaticTokens
from mira.embedding.minilm import token_vectors, word_pieces
from mira.embedding.static import _table, distil, load_static

TOKENS = 2000
"""The most frequent ones: the whole table takes half a minute."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def static(cache: Path) -> StaticTokens:
    return StaticTokens(cache, TOKENS)


def test_a_tokens_vector_is_the_models() -> None:
    queue = word_pieces().token_to_id("queue")
    alone = MiniLM(threads=1).embed(["queue"])[0]
    found = token_vectors(range(queue, queue + 1))[0]
    assert found / np.linalg.norm(found) == pytest.approx(alone, abs=1e-5)


def test_frequent_tokens_weigh_less_and_components_keep_distances() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 40))).astype(np.float32)
    table = distil(vectors, 6).astype(np.float64)
    lengths = np.linalg.norm(table, axis=1) / np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    assert (np.diff(lengths) > -1e-3).all()  # six components hold all of the variance: what is left is the weight
    assert lengths[0] < 0.01
    assert 0.2 < lengths[-1] < 1
    assert distil(vectors, 6).tobytes() == distil(vectors, 6).tobytes()


def test_similar_texts_are_near(static: StaticTokens) -> None:
    war, army, song = static.embed(
        ["The army fought a war.", "Soldiers of the British military in battle.", "She sang a song on the album."]
    )
    assert war @ army > 0.2 + war @ song
    assert float(np.linalg.norm(war)) == pytest.approx(1, abs=1e-6)


def test_a_vector_depends_on_its_text_alone(static: StaticTokens) -> None:
    texts = ["", "\ue000", "a", "one two", "one two three " * 9000]
    together = static.embed(texts)
    alone = np.vstack([static.embed([text]) for text in texts])
    assert together.tobytes() == alone.tobytes()
    assert together.shape == (5, 256) and static.embed([]).shape == (0, 256)
    assert not together[0].any() and np.isfinite(together).all()


def test_a_damaged_table_is_made_again(static: StaticTokens, cache: Path) -> None:
    kept = next((cache / "static").iterdir())
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-2] + b"xx")
    _table.cache_clear()
    assert StaticTokens(cache, TOKENS).embed(["the war"]).tobytes() == static.embed(["the war"]).tobytes()
    assert kept.read_bytes() == whole


def test_the_setting_names_it() -> None:
    assert plugins.load(plugins.EMBEDDERS, EmbeddingSettings(model="static").model) is load_static
