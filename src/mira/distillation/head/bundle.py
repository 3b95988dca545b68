"""The files of a head student: a Hugging Face checkpoint with bundle.json, scale.json, rubric.jsonl, perhaps ONNX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mira.distillation.bundle import read_bundle, weights_hash
from mira.distillation.encoder.head import TargetMap
from mira.errors import InputError
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_json, read_json, write_json

__all__ = ["FORMAT", "KIND", "SCALE", "HeadBundle", "read_head", "write_scale"]

KIND, FORMAT, SCALE, RUBRIC = "head", 1, "scale.json", "rubric.jsonl"
_AGAIN = "Pull or train the bundle again."


@dataclass(frozen=True, slots=True)
class HeadBundle:
    """A head's bundle without its weights.

    Attributes:
        folder: Where it is.
        facts: Its bundle.json.
        rubric: The slots that it scores.
        maps: One monotone map per output: from raw outputs to the teacher's scale.
        probe: A text and the raw outputs that the model gives for it, to check a server with.
        identity: Hash of weights, tokenizer and scale: all that its scores follow from, but for the way to compute.
    """

    folder: Path
    facts: dict[str, Any]
    rubric: Rubric
    maps: tuple[TargetMap, ...]
    probe: tuple[str, tuple[float, ...]]
    identity: str

    @property
    def max_length(self) -> int:
        """Tokens of a record, special tokens included."""
        return int(self.facts["max_length"])

    @property
    def n_slots(self) -> int:
        """Slots of its rubric; `overall` comes behind them."""
        return len(self.rubric.anchors)


def write_scale(folder: Path, maps: tuple[TargetMap, ...], text: str, raw: Any) -> None:
    """Write scale.json: the maps to the teacher's scale, and the text that a server is checked with."""
    value = {
        "maps": [{"fitted": m.fitted.tolist(), "scores": m.scores.tolist()} for m in maps],
        "check": {"text": text, "raw": [float(v) for v in raw]},
    }
    write_json(folder / SCALE, value)


def read_head(folder: Path) -> HeadBundle:
    """Read a bundle of kind "head".

    Raises:
        InputError: A file is missing or damaged, or the bundle is of another kind or format.
    """
    facts = read_bundle(folder, KIND)
    if facts.get("format") != FORMAT:
        raise InputError(f"{folder / 'bundle.json'}: format {facts.get('format')!r}, expected {FORMAT}", _AGAIN)
    rubric = Rubric.load(folder / RUBRIC, str(facts.get("group", "")))
    if rubric.hash != facts.get("rubric"):
        raise InputError(f"{folder / RUBRIC}: not the rubric that the student was trained on", _AGAIN)
    path = folder / SCALE
    try:
        value = read_json(path)
        maps = tuple(TargetMap(np.array(m["fitted"]), np.array(m["scores"])) for m in value["maps"])
        check = (str(value["check"]["text"]), tuple(map(float, value["check"]["raw"])))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error!r}", _AGAIN) from None
    if not len(maps) == len(check[1]) == len(rubric.anchors) + 1:
        raise InputError(f"{path}: {len(maps)} maps for {len(rubric.anchors)} slots and overall", _AGAIN)
    identity = hash_json([KIND, FORMAT, weights_hash(folder), value["maps"], rubric.hash, facts.get("max_length")])
    return HeadBundle(folder, facts, rubric, maps, check, identity)
