"""The seam of every embedder, and how long texts become windows."""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["CHARS_PER_TOKEN", "Embedder", "Vectors", "average", "sample_slices"]

Vectors = npt.NDArray[np.float32]

CHARS_PER_TOKEN = 6
"""Characters that hold a token of the MiniLM vocabulary in nearly all prose and code (mean of both is 3 to 5)."""


class Embedder(Protocol):
    """Texts in, unit vectors out. A text's vector never depends on the other texts of the call.

    Attributes:
        identity: Model and window settings: same identity, same vectors.
        dim: Length of a vector.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows of shape (len(texts), dim); long texts as the implementation documents."""
        ...


def sample_slices(text: str, windows: int, chars: int) -> list[str]:
    """Return what is read of a text: all of it where it fits, else evenly spaced slices from head to tail.

    Args:
        text: Any text.
        windows: Slices at most, at least 1.
        chars: Characters a slice at most, at least 1.

    Returns:
        One to `windows` slices in order, the first at the text's head; with two or more slices the last one ends at
        the text's end. Slices do not overlap.
    """
    if len(text) <= chars or windows == 1:
        return [text[:chars]]
    count = min(windows, -(-len(text) // chars))
    if count * chars >= len(text):
        bounds = [len(text) * i // count for i in range(count + 1)]
        return [text[a:b] for a, b in itertools.pairwise(bounds)]
    step = (len(text) - chars) / (count - 1)
    return [text[(start := round(i * step)) : start + chars] for i in range(count)]


def average(vectors: Vectors, counts: Sequence[int], weights: Sequence[float] | None = None) -> Vectors:
    """Average consecutive rows and normalise.

    Args:
        vectors: Window vectors, (sum(counts), dim).
        counts: Windows of each text, each at least 1.
        weights: Weight of each window; equal by default.

    Returns:
        (len(counts), dim) float32 unit rows.
    """
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
    factors = np.ones(len(vectors)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = np.add.reduceat(vectors.astype(np.float64) * factors[:, None], starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(norms > 0, norms, 1.0), dtype=np.float32)
