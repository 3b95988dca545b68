"""The order that records are kept in: better value first, ties by a hash of the record id.

Both halves of the key are 64-bit integers that sort ascending, so that a cutoff is exact and a histogram of any part
of the key is cheap. The hash is ours: eight bytes of the id at a time through the finaliser of SplitMix64, from a salt
of seed, purpose and source. It is the same on every machine and whatever the shard order.
"""

import numpy as np

from mira.arrays import Floats, Words
from mira.hashing import mix, uniform

__all__ = ["gumbel", "rank_keys", "value_of_key", "values_of_keys"]


_SIGN = np.uint64(1 << 63)
_GUMBEL = np.uint64(0x6D6972612D67756D)


def rank_keys(values: Floats) -> Words:
    """Map values to integers that sort ascending from the best (largest) value. NaN is not allowed."""
    bits = (values + 0.0).view(np.uint64)  # + 0.0 makes -0.0 and 0.0 one value
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.asarray(~ascending, dtype=np.uint64)


def value_of_key(key: int) -> float:
    """Return the value whose rank key is `key`: the inverse of `rank_keys`."""
    return float(values_of_keys(np.array([key], np.uint64))[0])


def values_of_keys(keys: Words) -> Floats:
    """Return the values whose rank keys are `keys`."""
    ascending = ~keys
    return np.asarray(np.where(ascending & _SIGN, ascending ^ _SIGN, ~ascending), np.uint64).view(np.float64)


def gumbel(ties: Words) -> Floats:
    """Draw Gumbel(0, 1) noise that depends on the tie hashes alone."""
    return np.asarray(-np.log(-np.log(uniform(mix(ties ^ _GUMBEL)))), dtype=np.float64)
