"""Array types that several packages share, and linear algebra that gives the same bits everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

__all__ = ["Floats", "SparseRows", "Words", "one_thread"]

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
SparseRows: TypeAlias = Any
"""A `scipy.sparse.csr_matrix`. SciPy has no types, and is slow to import."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let linear algebra use one thread: the last bits of its sums depend on how many there are."""
    from scipy import linalg  # noqa: F401, PLC0415 - it brings a BLAS of its own: only one that is loaded can be limited

    with threadpool_limits(1):
        yield
