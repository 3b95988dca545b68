"""A head as a judge in this process: on ONNX Runtime without torch, or with torch, best on a GPU."""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mira.corpus.record import Record
from mira.distillation.head.bundle import HeadBundle, read_head
from mira.distillation.head.model import outputs, require
from mira.distillation.head.onnx_session import NAME, OnnxModel
from mira.distillation.head.reading import Reader
from mira.distillation.head.targets import back
from mira.distillation.scores import judged
from mira.errors import InputError, MiraError, install_hint
from mira.judging.judge import Judge, JudgeTask
from mira.rubric.judgement import Judgement
from mira.run_folder.files import hash_file, hash_json

__all__ = ["HeadStudent", "Way", "way_to_score"]

Array = npt.NDArray[np.float64]
Way = Literal["onnx", "torch", "cuda"]
_READ_AHEAD = {"onnx": 64, "torch": 64, "cuda": 4096}
_BATCH_TOKENS = 65536
"""Padded tokens per batch on a GPU (ours)."""


def way_to_score(folder: Path, wanted: str = "auto") -> Way:
    """Return how a head's bundle is scored here.

    Args:
        folder: The bundle.
        wanted: `distill.head.scoring`.

    Raises:
        InputError: ONNX is wanted, and the bundle has none.
        MiraError: Neither torch nor an ONNX model is here.
    """
    has_onnx, has_torch = (folder / NAME).is_file(), importlib.util.find_spec("torch") is not None
    if wanted == "onnx" and not has_onnx:
        raise InputError(f"{folder}: has no {NAME}", "Set distill.head.scoring=torch, or serve the bundle.")
    if wanted == "torch" and not has_torch:
        raise MiraError("distill.head.scoring=torch needs torch", install_hint("train"))
    if wanted == "onnx" or not has_torch:
        if not has_onnx:
            raise MiraError(f"{folder}: has no {NAME}, and torch is not installed", install_hint("train"))
        return "onnx"
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        return "cuda"
    return "onnx" if has_onnx and wanted == "auto" else "torch"


class HeadStudent(Judge):
    """A head's bundle, scored here.

    On a CPU every record runs alone, and its scores depend on nothing else. On a GPU records run in batches of like
    length in bfloat16; the last digits of their scores may depend on the batch.

    Args:
        folder: The bundle.
        wanted: `distill.head.scoring`.
        threads: Threads of ONNX Runtime; worker processes take one.

    Raises:
        InputError: The folder is not a bundle of kind "head", or cannot be loaded.
        MiraError: What it needs is not installed.
    """

    def __init__(self, folder: Path, wanted: str = "auto", threads: int = 1) -> None:
        self.bundle: HeadBundle = read_head(folder)
        self.rubric, self.n_slots = self.bundle.rubric, self.bundle.n_slots
        self.way = way_to_score(folder, wanted)
        self._reader = Reader(folder / "tokenizer.json", self.bundle.max_length)
        self._onnx = OnnxModel(folder / NAME, threads) if self.way == "onnx" else None
        self._model: Any = None if self._onnx else self._load(folder)
        computed = hash_file(folder / NAME) if self.way == "onnx" else self.way
        self.identity = hash_json([self.bundle.identity, computed])

    def _load(self, folder: Path) -> Any:
        require("torch", "transformers")
        import torch  # noqa: PLC0415
        from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be loaded: {error}", "Pull or train the bundle again.") from None
        return model.eval().to("cuda" if self.way == "cuda" else "cpu")

    def raw(self, ids: Sequence[Sequence[int]]) -> Array:
        """Return the model's raw outputs (n, slots + 1) for token ids."""
        if not len(ids):
            return np.zeros((0, self.n_slots + 1))
        if self._onnx:
            return self._onnx.run(ids)
        tokens = _BATCH_TOKENS if self.way == "cuda" else 0
        return outputs(self._model, ids, self.bundle.facts["pad"], tokens)[0]

    def predict(self, records: Sequence[Record]) -> Array:
        """Return scores (n, slots + 1): the slots in [0, 10], then `overall` in [0, 100]; NaN without labels."""
        return self.scores(self.raw([self._reader.read(record).ids for record in records]))

    def scores(self, raw: Array) -> Array:
        """Return raw outputs on the teacher's scale."""
        return back(self.bundle.maps, raw) if len(raw) else raw

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield one judgement per task, in order."""
        stream = iter(tasks)
        while batch := list(islice(stream, _READ_AHEAD[self.way])):
            read = [self._reader.read(task.record) for task in batch]
            for task, reading, row in zip(batch, read, self.scores(self.raw([r.ids for r in read])), strict=True):
                yield judged(task, row, self.identity, reading.notes)
