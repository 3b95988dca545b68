"""Static vectors of tokens, distilled from the built-in MiniLM: no model runs when a text is embedded.

Every token of the vocabulary goes through MiniLM once, alone between [CLS] and [SEP]. Principal components take the
vectors to 256 numbers, and a weight by smooth inverse frequency (Arora, Liang and Ma 2017) makes frequent tokens count
less; the vocabulary is in order of frequency, so Zipf's law gives the frequencies. A text is the mean of its tokens.
The recipe is Model2Vec's (van Dongen and Tulkens 2024).
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mira.arrays import one_thread
from mira.config.settings import EmbeddingSettings
from mira.embedding.embedder import Vectors
from mira.embedding.minilm import SHA256, token_vectors, word_pieces
from mira.run_folder.cache import Cache
from mira.run_folder.files import hash_json
from mira.run_folder.machine import user_cache

__all__ = ["StaticTokens", "distil", "load_static"]

DIM = 256
READ_CHARS = 32_768
"""Of a longer text, the first and last halves of this many characters are read."""
SMOOTH = 1e-4
_RECIPE = 1
FIRST_TOKEN = 999
"""Tokens before it are markers and places that the vocabulary leaves unused."""


class StaticTokens:
    """Mean of static token vectors, normalised.

    The table of 30,522 vectors is made at the first use, in about half a minute, and kept in mira's cache folder.

    Args:
        cache: The cache folder; by default $MIRA_CACHE or the user's.
        tokens: Tokens that have a vector, the most frequent ones; 0 means all.
    """

    dim = DIM

    def __init__(self, cache: Path | None = None, tokens: int = 0) -> None:
        self._tokenizer = word_pieces()
        size = self._tokenizer.get_vocab_size()
        known = min(tokens or size, size - FIRST_TOKEN)
        self.identity = f"static-minilm:{SHA256[:8]}:{_RECIPE}:{known}x{DIM}"
        self._table = _table(cache or user_cache(), self.identity, known)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), 256); a text without a known token is a row of zeros."""
        return np.array([self._vector(text) for text in texts], dtype=np.float32).reshape(len(texts), DIM)

    def _vector(self, text: str) -> npt.NDArray[np.float64]:
        if len(text) > READ_CHARS:
            text = text[: READ_CHARS // 2] + "\n" + text[-READ_CHARS // 2 :]
        ids = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64) - FIRST_TOKEN
        total = self._table[ids[(ids >= 0) & (ids < len(self._table))]].sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(total))
        return np.asarray(total / max(length, 1e-12))


def load_static(settings: EmbeddingSettings, threads: int) -> StaticTokens:
    """Return the embedder; it reads no setting and computes in one thread."""
    del settings, threads
    return StaticTokens()


@lru_cache(maxsize=2)
def _table(cache: Path, identity: str, tokens: int) -> npt.NDArray[np.float16]:
    """Return the vectors of the tokens from FIRST_TOKEN on, (tokens, DIM)."""
    kept, key = Cache(cache / "static"), hash_json([identity])
    content = kept.get(key)
    if content is None:
        content = distil(token_vectors(range(FIRST_TOKEN, FIRST_TOKEN + tokens))).tobytes()
        with suppress(OSError):  # the next process makes it again
            kept.put(key, content)
    return np.frombuffer(content, "<f2").reshape(-1, DIM)


def distil(vectors: Vectors, dim: int = DIM) -> npt.NDArray[np.float16]:
    """Return the table of vectors: principal components, weighted by smooth inverse frequency.

    Half precision hides that sums differ in their last bits from one processor to another.

    Args:
        vectors: One row a token, the most frequent first, (tokens, any).
        dim: Components, at most the rows' length.

    Returns:
        (tokens, dim).
    """
    with one_thread():
        centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
        values, axes = np.linalg.eigh(centred.T @ centred)
        chosen = axes[:, np.argsort(-values, kind="stable")[:dim]]
        chosen *= np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(dim)])
        components = centred @ chosen
    frequency = 1 / np.arange(1, len(vectors) + 1)
    weights = SMOOTH / (SMOOTH + frequency / frequency.sum())
    return np.asarray(components * weights[:, None], dtype="<f2")
