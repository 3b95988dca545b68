"""Models of the sentence-transformers library (extra `[embed]`), by option."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from mira.config.settings import EmbeddingSettings
from mira.embedding.embedder import CHARS_PER_TOKEN, Vectors, average, sample_slices
from mira.errors import ConfigError, install_hint

__all__ = ["SentenceTransformerEmbedder", "hash_weights", "one_thread"]


class SentenceTransformerEmbedder:
    """A sentence-transformers model, by name or folder; weights in safetensors.

    A long text is read at `settings.windows` evenly spaced slices of `settings.window_tokens` x 6 characters, and
    their vectors are averaged; the model cuts a slice that is longer than its own limit. Slices run one at a time,
    without padding, and on a CPU in one thread, so that a vector depends neither on the batch nor on the number of
    cores. The identity holds a hash of the weights, and of a folder's path the last part only, so that a student can
    be used where the model lies elsewhere.

    Args:
        settings: `model` names the model.

    Raises:
        ConfigError: The library is not installed, or the model cannot be loaded.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        try:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - optional
            from transformers.utils import logging  # noqa: PLC0415 - optional
        except ImportError:
            raise ConfigError(
                f"embedding.model: {settings.model!r} needs sentence-transformers, which is not installed",
                f"Install it with: {install_hint('embed')}; or use the built-in model: minilm.",
            ) from None
        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(settings.model, model_kwargs={"use_safetensors": True})
        except Exception as error:  # the library raises many kinds for a wrong name or a failed download
            words = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"embedding.model: cannot load {settings.model!r}: {words}",
                "Check the name or the folder; the model needs weights in safetensors.",
            ) from None
        self._windows, self._chars = settings.windows, settings.window_tokens * CHARS_PER_TOKEN
        name = Path(settings.model).name if Path(settings.model).is_dir() else settings.model
        windows = f"{settings.windows}x{settings.window_tokens}"
        self.identity = f"sentence-transformers:{name}:{hash_weights(self._model)}:{windows}"
        self.dim = self._encode([""]).shape[1]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), dim)."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        pieces = [sample_slices(text, self._windows, self._chars) for text in texts]
        return average(self._encode([piece for slices in pieces for piece in slices]), [len(p) for p in pieces])

    def _encode(self, pieces: list[str]) -> Vectors:
        with one_thread():
            found = self._model.encode(pieces, batch_size=1, show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(found, dtype=np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in torch depend on the number of threads in their last bits."""
    import torch  # noqa: PLC0415 - optional

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hash_weights(model: Any) -> str:
    """Return a short hash of a torch model's weights."""
    import torch  # noqa: PLC0415 - optional

    digest = blake2b(digest_size=4)
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
