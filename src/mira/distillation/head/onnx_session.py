"""An ONNX model without torch: one record at a time, so that a score depends on its record alone."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.errors import InputError

__all__ = ["NAME", "OnnxModel"]

NAME = "model.onnx"
_OUTSIDE = b"\x0a\x08location"
"""How a tensor that lies in another file begins: its key, as a protobuf string."""


class OnnxModel:
    """A head's model on ONNX Runtime.

    Args:
        path: The file. It must hold all of its weights, and standard operators alone.
        threads: Threads per record; worker processes take one.

    Raises:
        InputError: The file cannot be loaded, or refers to other files.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which would start to call home
        import onnxruntime  # noqa: PLC0415 - slow to import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        again = "Pull or train the bundle again."
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}", again) from None
        if _OUTSIDE in content:
            raise InputError(f"{path}: its weights lie in another file, which a bundle may not do", again)
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises errors of its own
            raise InputError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:200]}", again) from None

    def run(self, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
        """Return raw outputs (n, targets)."""
        rows = [self._run(np.array([own], dtype=np.int64)) for own in ids]
        return np.array(rows, dtype=np.float64)

    def _run(self, row: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        found = self._session.run(["scores"], {"input_ids": row, "attention_mask": np.ones_like(row)})
        scores: npt.NDArray[np.float32] = found[0][0]
        return scores
