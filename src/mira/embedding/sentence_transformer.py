"""Models of the sentence-transformers library, by option."""

from collections.abc import Sequence

import numpy as np

from mira.config import EmbeddingSettings
from mira.embedding.embedder import CHARS_PER_TOKEN, Vectors, average, sample_slices
from mira.errors import ConfigError

__all__ = ["SentenceTransformerEmbedder"]


class SentenceTransformerEmbedder:
    """A sentence-transformers model, by name or folder.

    A long text is read at `settings.windows` evenly spaced slices of `settings.window_tokens` x 6 characters, and
    their vectors are averaged; the model cuts a slice that is longer than its own limit. Slices run one at a time,
    without padding, so that a vector does not depend on the batch.

    Args:
        settings: `model` names the model.

    Raises:
        ConfigError: The library is not installed, or the model cannot be loaded.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        try:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        except ImportError:
            raise ConfigError(
                f"embedding.model: {settings.model!r} needs sentence-transformers, which is not installed",
                "Install mira-select[embed], or use the built-in model: minilm.",
            ) from None
        try:
            self._model = SentenceTransformer(settings.model)
        except Exception as error:  # the library raises many kinds for a wrong name or a failed download
            raise ConfigError(
                f"embedding.model: cannot load {settings.model!r}: {error}", "Check the name or the folder."
            ) from None
        self._windows, self._chars = settings.windows, settings.window_tokens * CHARS_PER_TOKEN
        self.identity = f"sentence-transformers:{settings.model}:{settings.windows}x{settings.window_tokens}"
        self.dim = int(self._model.get_sentence_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), dim)."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        pieces = [sample_slices(text, self._windows, self._chars) for text in texts]
        flat = [piece for slices in pieces for piece in slices]
        vectors = self._model.encode(flat, batch_size=1, show_progress_bar=False, normalize_embeddings=True)
        return average(np.asarray(vectors, dtype=np.float32), [len(p) for p in pieces])
