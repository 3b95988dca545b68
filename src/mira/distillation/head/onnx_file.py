"""The model as ONNX: exported, checked against torch, and with int8 weights if the order of records survives it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.distillation.head.model import outputs
from mira.distillation.head.onnx_session import NAME, OnnxModel
from mira.distillation.head.trainer import Examples
from mira.errors import InputError
from mira.progress import Log

__all__ = ["MOST_PARAMETERS", "TOLERANCE", "write_onnx"]

Array = npt.NDArray[np.float64]

MOST_PARAMETERS = 400_000_000
"""An ONNX file holds 2 GB, and a larger model is too slow without a GPU (ours)."""
TOLERANCE = 1e-3
"""Raw outputs of ONNX and torch may differ by this much."""
INT8_LOSS = 0.005
"""Within-source rho that int8 weights may cost on the validation part (ours)."""
_CHECKED = 8


def write_onnx(model: Any, folder: Path, validation: Examples, pad: int, log: Log) -> dict[str, Any]:
    """Write `model.onnx` into a bundle.

    Args:
        model: The tuned model, on the CPU.
        folder: The bundle.
        validation: What int8 weights are measured on.
        pad: Id of the padding token.
        log: Takes a note if it cannot be written.

    Returns:
        What is to be said in bundle.json: `weights` ("float32", "int8" or None), `why`, the rho within sources of both
        on the validation part, and records per second of both on one core.
    """
    n_parameters = sum(p.numel() for p in model.parameters())
    if n_parameters > MOST_PARAMETERS:
        return _without(f"{n_parameters / 1e6:,.0f}M parameters", log)
    ids = validation.ids(np.arange(len(validation)))
    whole, small = folder / NAME, folder / "int8.onnx"
    shortest = sorted(ids, key=len)[:_CHECKED]
    try:
        _export(model, whole)
        off = np.abs(OnnxModel(whole).run(shortest) - outputs(model, shortest, pad)[0]).max()
    except Exception as error:  # exporters raise errors of all kinds
        whole.unlink(missing_ok=True)
        return _without(f"cannot be exported: {(str(error).strip() or type(error).__name__).splitlines()[0]}", log)
    if not off <= TOLERANCE:
        whole.unlink()
        return _without(f"its values differ from torch's by {off:.2g}", log)
    _quantise(whole, small)
    (rho, rate), (rho_int8, rate_int8) = (_measured(path, ids, validation) for path in (whole, small))
    smaller = rho_int8 >= rho - INT8_LOSS
    if smaller:
        small.replace(whole)
    small.unlink(missing_ok=True)
    return {
        "weights": "int8" if smaller else "float32",
        "why": f"int8 weights change within-source rho by {rho_int8 - rho:+.4f}; at most {-INT8_LOSS:+.3f} is accepted",
        "rho_within": {"float32": rho, "int8": rho_int8},
        "records_per_second": {"float32": rate, "int8": rate_int8},
        "largest_difference_from_torch": float(off),
    }


def _without(why: str, log: Log) -> dict[str, Any]:
    log.note(f"  no ONNX model: {why}; the head scores here with torch, or served")
    return {"weights": None, "why": why}


def _export(model: Any, path: Path) -> None:
    import logging  # noqa: PLC0415
    import warnings  # noqa: PLC0415

    import torch  # noqa: PLC0415

    class Scores(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.ones((2, 16), dtype=torch.long)
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Scores().eval(), (ids, torch.ones_like(ids)), str(path), input_names=["input_ids", "attention_mask"],
            output_names=["scores"], dynamo=True, external_data=False, verbose=False,
            dynamic_shapes={"input_ids": sizes, "attention_mask": dict(sizes)},
        )  # fmt: skip


def _quantise(whole: Path, small: Path) -> None:
    import logging  # noqa: PLC0415

    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    logging.getLogger().addFilter(_no_advice)  # it recommends a preprocessing step by logging on the root
    try:
        quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.getLogger().removeFilter(_no_advice)


def _no_advice(record: Any) -> bool:
    return "pre-processing" not in str(record.msg)


def _measured(path: Path, ids: Sequence[list[int]], validation: Examples) -> tuple[float, float]:
    session = OnnxModel(path)
    started = time.perf_counter()
    raw = session.run(ids)
    seconds = time.perf_counter() - started
    if not np.isfinite(raw).all():
        raise InputError(f"{path}: gives values that are not finite", "Tune again with distill.head.onnx=false.")
    return validation.rho(raw), round(len(ids) / max(seconds, 1e-9), 1)
