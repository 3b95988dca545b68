"""Hashed character n-grams: stateless, vectorised, the same on every machine."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mira.arrays import SparseRows

__all__ = ["BUCKETS", "LONGEST", "READ_CHARS", "hashed_ngrams"]

BUCKETS = 2**14
LONGEST = 4
"""N-grams of 1 to this many characters are counted."""
READ_CHARS = 131_072
"""Of a longer text, the first and last halves of this many characters are read."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


def hashed_ngrams(texts: Sequence[str]) -> SparseRows:
    """Return 1 + ln(count) of each text's lower-cased character n-grams, hashed to buckets.

    Returns:
        float32 matrix (len(texts), BUCKETS); indices sorted.
    """
    from scipy import sparse  # noqa: PLC0415 - slow to import

    rows = [_buckets(text) for text in texts]
    indptr = np.concatenate([[0], np.cumsum([len(found) for found, _ in rows])]).astype(np.int64)
    indices = np.concatenate([found for found, _ in rows]) if rows else np.zeros(0, np.int32)
    data = np.concatenate([weight for _, weight in rows]) if rows else np.zeros(0, np.float32)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(rows), BUCKETS))


def _buckets(text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    if len(text) > READ_CHARS:
        text = text[: READ_CHARS // 2] + "\n" + text[-READ_CHARS // 2 :]
    codes = np.frombuffer(text.lower().encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    buckets = []
    rolling = np.zeros(len(codes), dtype=np.uint64)
    for n in range(1, min(LONGEST, len(codes)) + 1):
        rolling = (rolling[: len(codes) - n + 1] + codes[n - 1 :]) * _PRIME
        mixed = (rolling ^ (rolling >> np.uint64(31))) * _MIX
        buckets.append((mixed >> np.uint64(50)).astype(np.int64))
    counts = np.bincount(np.concatenate(buckets) if buckets else np.zeros(0, np.int64), minlength=BUCKETS)
    found = np.flatnonzero(counts)
    return found.astype(np.int32), (1 + np.log(counts[found])).astype(np.float32)
