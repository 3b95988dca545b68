"""Array types that several packages share."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "SparseRows", "Words"]

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
SparseRows: TypeAlias = Any
"""A `scipy.sparse.csr_matrix`. SciPy has no types, and is slow to import."""
