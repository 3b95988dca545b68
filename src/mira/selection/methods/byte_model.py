"""A byte n-gram language model: interpolated Witten-Bell smoothing, counted and queried in arrays.

P_k(c | h) = (count(hc) + T(h) P_{k-1}(c | h')) / (count(h) + T(h)), where T(h) is the number of distinct bytes seen
after h, h' is h without its first byte, and P_0 is uniform over 256 bytes (Chen and Goodman 1999, section 2). A text
starts after a context of zero bytes. The probabilities of the bytes after any context add up to 1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mira.run_folder.files import atomic

__all__ = ["ByteModel"]

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_PIECE = 1 << 20  # bytes that are scored at once


@dataclass(frozen=True, eq=False)
class ByteModel:
    """A trained model.

    Attributes:
        grams: For k = 1..order, the seen k-grams as big-endian numbers, ascending.
        bits: For each of them, -log2 P_k of its last byte after the others.
        contexts: For k = 1..order, the seen contexts of k - 1 bytes, ascending.
        backoffs: For each of them, -log2 of T(h) / (count(h) + T(h)).
    """

    grams: tuple[Words, ...]
    bits: tuple[Floats, ...]
    contexts: tuple[Words, ...]
    backoffs: tuple[Floats, ...]

    @property
    def order(self) -> int:
        """Longest n-gram, in bytes."""
        return len(self.grams)

    @classmethod
    def train(cls, texts: Iterable[str], order: int) -> "ByteModel":
        """Count the n-grams of texts.

        Args:
            texts: The texts; about 200 bytes of memory a byte of them.
            order: Longest n-gram, 1 to 8 bytes.
        """
        padding = bytes(order - 1)
        data = [text.encode("utf-8", "surrogatepass") for text in texts]
        codes = np.frombuffer(b"".join(padding + text for text in data), np.uint8)
        inside = np.ones(len(codes), bool)
        starts = np.cumsum([0, *(len(text) + order - 1 for text in data)])[:-1]
        for offset in range(order - 1):
            inside[starts + offset] = False
        grams: list[Words] = []
        contexts: list[Words] = []
        bits: list[Floats] = []
        backoffs: list[Floats] = []
        lower = np.zeros(0)
        for k in range(1, order + 1):
            seen, counts = np.unique(_grams(codes, k)[inside], return_counts=True)
            heads, at, followers = np.unique(seen >> np.uint64(8), return_inverse=True, return_counts=True)
            totals = np.bincount(at, counts, len(heads))
            below = np.full(len(seen), 1 / 256) if k == 1 else lower[_find(grams[-1], seen & _mask(k - 1))]
            lower = (counts + followers[at] * below) / (totals[at] + followers[at])
            grams.append(seen)
            bits.append(-np.log2(lower))
            contexts.append(heads)
            backoffs.append(-np.log2(followers / (totals + followers)))
        return cls(tuple(grams), tuple(bits), tuple(contexts), tuple(backoffs))

    def text_bits(self, texts: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return each text's information under the model in bits, and its UTF-8 bytes."""
        data = [text.encode("utf-8", "surrogatepass") for text in texts]
        return np.array([self._bits(text) for text in data], np.float64), np.array([len(text) for text in data])

    def byte_bits(self, text: bytes) -> Floats:
        """Return the bits of every byte of `text`."""
        codes = np.frombuffer(bytes(self.order - 1) + text, np.uint8)
        total = np.zeros(len(text))
        left = np.arange(len(text))
        for k in range(self.order, 0, -1):
            keys = _grams(codes, k)[left + self.order - 1]
            at, found = _look_up(self.grams[k - 1], keys)
            total[left[found]] += self.bits[k - 1][at[found]]
            left, keys = left[~found], keys[~found]
            at, found = _look_up(self.contexts[k - 1], keys >> np.uint64(8))
            total[left[found]] += self.backoffs[k - 1][at[found]]
        total[left] += 8.0
        return total

    def _bits(self, text: bytes) -> float:
        back = self.order - 1
        total = 0.0
        for start in range(0, len(text), _PIECE):
            before = max(start - back, 0)
            total += float(self.byte_bits(text[before : start + _PIECE])[start - before :].sum())
        return total

    def save(self, path: Path) -> None:
        """Write the model's arrays as .npz."""
        columns = {"grams": self.grams, "bits": self.bits, "contexts": self.contexts, "backoffs": self.backoffs}
        arrays = {f"{name}{k}": array for name, parts in columns.items() for k, array in enumerate(parts)}
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "ByteModel":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            order = sum(name.startswith("grams") for name in arrays)
            columns = ("grams", "bits", "contexts", "backoffs")
            return cls(*(tuple(arrays[f"{name}{k}"] for k in range(order)) for name in columns))


def _mask(k: int) -> np.uint64:
    return np.uint64((1 << 8 * k) - 1)


def _grams(codes: npt.NDArray[np.uint8], k: int) -> Words:
    """Return, for every position, the k bytes that end there as a big-endian number (fewer at the start)."""
    grams = codes.astype(np.uint64)
    for back in range(1, k):
        grams[back:] |= codes[:-back].astype(np.uint64) << np.uint64(8 * back)
    return grams


def _find(table: Words, keys: Words) -> npt.NDArray[np.intp]:
    return np.searchsorted(table, keys)


def _look_up(table: Words, keys: Words) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    if not len(table):
        return np.zeros(len(keys), np.intp), np.zeros(len(keys), np.bool_)
    at = np.minimum(_find(table, keys), len(table) - 1)
    return at, table[at] == keys
