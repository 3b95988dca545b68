"""What tuning a head will take, before anything is loaded: from the base model's files and a short measurement."""

import json
import struct
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mira.config.settings import HeadSettings
from mira.distillation.tuning import state_bytes

__all__ = ["Estimate", "Shape", "estimate", "read_shape", "training_speed"]

_ACTIVATION_BYTES = 68  # a token, layer and hidden unit kept for the gradient, float32 (after Korthikanti et al. 2022)
_LIBRARIES = 1.2e9  # Python, torch and transformers, and the export to ONNX, without a model (measured)
_CPU_SHARE, _GPU_SHARE = 0.4, 0.35  # of the matrix product's speed that training reaches (ours)
_SIDE = 768


class Shape(NamedTuple):
    """A base model's size: parameters, those of its embeddings, hidden units, layers."""

    parameters: int
    embeddings: int
    hidden: int
    layers: int


class Estimate(NamedTuple):
    """Bytes of memory at the peak, and seconds."""

    memory: float
    seconds: float


def read_shape(model: str) -> Shape | None:
    """Return the size of a model in a folder, from its config and the headers of its weights.

    None if it is not here yet, or its files cannot be read.
    """
    folder = Path(model)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config") or config
        sizes = [size for path in sorted(folder.glob("*.safetensors")) for size in _tensors(path)]
        total = sum(n for _, n in sizes)
        embedded = sum(n for name, n in sizes if "embed" in name or "wte" in name)
        return Shape(total, embedded, int(config["hidden_size"]), int(config["num_hidden_layers"])) if total else None
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def _tensors(path: Path) -> list[tuple[str, int]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return [(n, int(np.prod(e["shape"]))) for n, e in header.items() if n != "__metadata__"]


def estimate(settings: HeadSettings, shape: Shape, records: float, tokens: float, speed: float) -> Estimate:
    """Estimate one group's tuning.

    Args:
        settings: How it is tuned.
        shape: The base model's size.
        records: Records that are learnt from.
        tokens: Mean tokens of a record, cut to `max_length`.
        speed: Floating-point operations per second that training reaches; see `training_speed`.

    Returns:
        Peak memory, and the time of all epochs with their evaluations; less if it stops early.
    """
    at_once = min(settings.micro_batch, settings.batch_size)
    # A batch is padded to its longest record, which may have all the tokens there can be.
    kept = _ACTIVATION_BYTES * at_once * settings.max_length * shape.hidden * shape.layers
    memory = state_bytes(settings, shape.parameters) + kept + _LIBRARIES
    work = 2 * max(shape.parameters - shape.embeddings, 1) + 2 * tokens * shape.hidden * shape.layers
    passes = (2 if settings.lora_rank else 3) + settings.validation / (1 - settings.validation)
    return Estimate(memory, work * passes * records * tokens * settings.epochs / speed)


def training_speed() -> tuple[float, str]:
    """Measure a matrix product for a moment, and return what training reaches of it, and where."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        pass
    else:
        if torch.cuda.is_available():
            return _GPU_SHARE * _gpu_speed(), torch.cuda.get_device_name()
    left = np.ones((_SIDE, _SIDE), np.float32)
    fastest = float("inf")
    for _ in range(30):  # the fastest one, for others may be busy here
        started = time.perf_counter()
        left @ left
        fastest = min(fastest, time.perf_counter() - started)
    return _CPU_SHARE * 2 * _SIDE**3 / fastest, "this machine's cores, if nothing else runs here"


def _gpu_speed() -> float:
    import torch  # noqa: PLC0415

    side, n = 8192, 20
    left = torch.ones((side, side), dtype=torch.bfloat16, device="cuda")
    left @ left
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(n):
        left @ left
    torch.cuda.synchronize()
    return 2 * side**3 * n / (time.perf_counter() - started)
