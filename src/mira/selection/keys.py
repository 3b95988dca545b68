"""The order that records are kept in: better value first, ties by a hash of the record id.

Both halves of the key are 64-bit integers that sort ascending, so that a cutoff is exact and a histogram of any part
of the key is cheap. The hash is ours: eight bytes of the id at a time through the finaliser of SplitMix64, from a salt
of seed, purpose and source. It is the same on every machine and whatever the shard order.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Floats", "Words", "gumbel", "hash_ids", "mix", "rank_keys", "uniform", "value_of_key"]

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_Column = tuple[slice | npt.NDArray[np.intp], Words]
_SIGN = np.uint64(1 << 63)
_STEP, _FULL = 0x9E3779B97F4A7C15, (1 << 64) - 1
_GUMBEL = np.uint64(0x6D6972612D67756D)


def rank_keys(values: Floats) -> Words:
    """Map values to integers that sort ascending from the best (largest) value. NaN is not allowed."""
    bits = (values + 0.0).view(np.uint64)  # + 0.0 makes -0.0 and 0.0 one value
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.asarray(~ascending, dtype=np.uint64)


def value_of_key(key: int) -> float:
    """Return the value whose rank key is `key`: the inverse of `rank_keys`."""
    ascending = ~np.uint64(key)
    bits = ascending ^ _SIGN if ascending & _SIGN else ~ascending
    return float(np.asarray(bits, dtype=np.uint64).view(np.float64))


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


def gumbel(ties: Words) -> Floats:
    """Draw Gumbel(0, 1) noise that depends on the tie hashes alone."""
    return np.asarray(-np.log(-np.log(uniform(mix(ties ^ _GUMBEL)))), dtype=np.float64)


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
