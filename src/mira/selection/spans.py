"""Hashes of many spans of one run of bytes, each in constant time."""

from functools import cache

import numpy as np
import numpy.typing as npt

from mira.selection.keys import Words, mix

__all__ = ["hash_spans"]

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
