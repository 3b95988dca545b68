"""A rubric: a group's ordered anchors and calibration references, immutable, named by its content hash."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from mira.errors import InputError
from mira.rubric.anchor import Anchor, Reference
from mira.rubric.anchors_file import read_anchors
from mira.rubric.slots import slot_names
from mira.run_folder.files import hash_json, write_bytes

__all__ = ["Anchor", "Reference", "Rubric"]


@dataclass(frozen=True, slots=True)
class Rubric:
    """A group's rubric.

    Attributes:
        group: Group name, "<family>_group_<X>".
        anchors: Its anchors, slots A1..An in order.
        n_referenced: How many of the first slots have their references in the system prompt (12 in the card).
    """

    group: str
    anchors: tuple[Anchor, ...]
    n_referenced: int = 12

    @property
    def hash(self) -> str:
        """Content hash: part of every judgement's identity. 16 hex digits."""
        return hash_json([self.n_referenced, [asdict(a) for a in self.anchors]])

    @property
    def slots(self) -> list[str]:
        """Return ["A1", ...]."""
        return [a.slot for a in self.anchors]

    def save(self, path: Path) -> None:
        """Write one JSON line per slot."""
        write_bytes(path, b"".join(orjson.dumps(_plain(a)) + b"\n" for a in self.anchors))

    @classmethod
    def load(cls, path: Path, group: str = "") -> "Rubric":
        """Read a `<group>_dim_anchors.jsonl` file.

        Args:
            path: The rubric file, in mira's form or one that `read_anchors` knows. Names are required; what else a
                released file lacks is taken as unknown.
            group: Group name; by default the file name without "_dim_anchors.jsonl".

        Raises:
            InputError: The file cannot be read, an entry is not an anchor, or the slots are not A1..An in order.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: cannot read the rubric: {error.strerror}", "Point to a file of anchors."
            ) from None
        anchors = read_anchors(data, str(path))
        name = path.name.removesuffix(".jsonl").removesuffix(".json").removesuffix("_dim_anchors")
        return cls.build(group or name, anchors, str(path))

    @classmethod
    def build(cls, group: str, anchors: Sequence[Anchor], where: str = "rubric") -> "Rubric":
        """Check that slots are A1..An in order, and return the rubric.

        Raises:
            InputError: The rubric has no anchor, or a slot is missing, doubled or out of order.
        """
        expected = slot_names(len(anchors))
        found = [a.slot for a in anchors]
        if not anchors or found != expected:
            raise InputError(
                f"{where}: slots are {found}", f"A rubric's slots are {expected or '[A1, ...]'}, in order."
            )
        return cls(group=group, anchors=tuple(anchors))


def _plain(anchor: Anchor) -> dict[str, Any]:
    value = asdict(anchor)
    if anchor.cohesion is None:
        del value["cohesion"]
    value["exemplar"] = {k: v for k, v in value["exemplar"].items() if v != "" or k == "reason"}
    return value
