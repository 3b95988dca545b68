"""Vectorised 64-bit hashes: of record ids, and of many spans of one run of bytes.

Ids are hashed eight bytes at a time through the finaliser of SplitMix64, from a salt of seed, purpose and source. A
hash is the same on every machine and whatever the shard order.
"""

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira.arrays import Floats, Words

__all__ = ["hash_ids", "hash_spans", "mix", "uniform"]

_Column = tuple[slice | npt.NDArray[np.intp], Words]
_STEP, _FULL = 0x9E3779B97F4A7C15, (1 << 64) - 1

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_LENGTH = np.uint64(0xD6E8FEB86659FD93)


def hash_spans(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Words:
    """Hash each span: sum of byte_j * base**(j - start) modulo 2**64, from one running sum, mixed with its length.

    Args:
        data: The bytes.
        starts: First byte of each span.
        ends: Byte after the last of each span.

    Returns:
        A 64-bit hash a span; equal bytes have equal hashes, whatever `data` is.
    """
    powers, inverses = _powers(len(data).bit_length())
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(data * powers[: len(data)], out=sums[1:])
    return mix((sums[ends] - sums[starts]) * inverses[starts] + (ends - starts).view(np.uint64) * _LENGTH)


@cache
def _powers(bits: int) -> tuple[Words, Words]:
    """Return the first 2**bits powers of the base, and of its inverse."""
    return _powers_of(_BASE, bits), _powers_of(pow(_BASE, -1, 1 << 64), bits)


def _powers_of(base: int, bits: int) -> Words:
    factors = np.full(1 << bits, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def hash_ids(ids: pa.Array, seed: int, source: str, purpose: str = "tie") -> Words:
    """Hash record ids.

    Args:
        ids: String array without nulls.
        seed: The run's seed.
        source: Source of the records: equal ids of two sources get unrelated hashes.
        purpose: What the hash is for; another purpose gives unrelated hashes.

    Returns:
        One uniform 64-bit word an id.
    """
    salt = hashlib.blake2b(f"{seed}\0{purpose}\0{source}".encode(), digest_size=8).digest()
    lengths, words = _cut_words(ids)
    hashes = np.full(len(ids), int.from_bytes(salt, "little"), np.uint64)
    for at, (rows, column) in enumerate(words):
        mixed = mix(hashes[rows] ^ column) + np.uint64((_STEP * (at + 1)) & _FULL)
        hashes[rows] = mixed
    return mix(hashes ^ lengths)


def mix(words: Words) -> Words:
    """Scramble words so that every bit of the result depends on every bit of the word (SplitMix64's finaliser)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def uniform(hashes: Words) -> Floats:
    """Map hashes to floats strictly between 0 and 1."""
    return ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _cut_words(ids: pa.Array) -> tuple[Words, list[_Column]]:
    """Cut ids into zero-padded little-endian 8-byte words: (lengths, [(rows that have a k-th word, the words)])."""
    ids = ids.cast(pa.large_string())
    offsets = np.frombuffer(ids.buffers()[1], np.int64, len(ids) + 1, ids.offset * 8)
    data = np.frombuffer(ids.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    if len(lengths) and lengths.min() == lengths.max():
        return lengths.astype(np.uint64), _equal_words(data.reshape(len(lengths), lengths[0]))
    starts = offsets[:-1] - offsets[0]
    words: list[_Column] = []
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 8)
    for at in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > at)
        column = np.ascontiguousarray(windows[starts[rows] + at]).view("<u8")[:, 0]
        spare = (8 * np.clip(at + 8 - lengths[rows], 0, 7)).astype(np.uint64)
        words.append((rows, (column << spare) >> spare))
    return lengths.astype(np.uint64), words


def _equal_words(data: npt.NDArray[np.uint8]) -> list[_Column]:
    count, length = data.shape
    padded = np.zeros((count, -(-length // 8) * 8), np.uint8)
    padded[:, :length] = data
    return [(slice(None), np.ascontiguousarray(column)) for column in padded.view("<u8").T]
