import importlib.util

import pytest

import mira.embedding
from mira.config.settings import EmbeddingSettings
from mira.embedding import MiniLM, load_embedder
from mira.errors import ConfigError


def test_the_default_is_built_in() -> None:
    found = load_embedder(EmbeddingSettings(windows=2, window_tokens=32), threads=1)
    assert isinstance(found, MiniLM)
    assert found.identity.endswith(":2x32")


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is not None, reason="the library is there")
def test_a_missing_library_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"mira-select\[embed\]"):
        load_embedder(EmbeddingSettings(model="org/some-model"))


def test_all_is_complete() -> None:
    assert all(hasattr(mira.embedding, name) for name in mira.embedding.__all__)
