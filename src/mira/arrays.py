"""Array types that several packages share."""

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Words"]

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
