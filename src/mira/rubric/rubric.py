"""A rubric: a group's ordered anchors and calibration references, immutable, named by its content hash."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from mira.errors import InputError
from mira.rubric.slots import slot_names
from mira.run_folder.files import hash_json, write_bytes

__all__ = ["Anchor", "Reference", "Rubric"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A real judgment point that fixes the scale: the judged record, the dimension, the score and its reason."""

    record: str
    score: float
    reason: str
    source: str = ""
    dimension: str = ""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One slot of a rubric. Its identity is the slot: names repeat and are never merged.

    Attributes:
        slot: "A1", "A2", ... in order of cluster size.
        name: The dimension's name, verbatim from the exemplar.
        cluster_size: Judgment points in the cluster.
        exemplar: The real point nearest the centroid.
        near_names: Frequent other names in the cluster.
        references: Calibration references, by ascending score.
        cohesion: Mean cosine of the cluster's points to its centroid, or None where unknown.
    """

    slot: str
    name: str
    cluster_size: int
    exemplar: Reference
    near_names: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    cohesion: float | None = None


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
            path: The rubric file, one JSON object a line. `slot` and `name` are required; what else a released
                file lacks is taken as unknown.
            group: Group name; by default the file name without "_dim_anchors.jsonl".

        Raises:
            InputError: The file cannot be read, a line is not an anchor, or the slots are not A1..An in order.
        """
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise InputError(
                f"{path}: cannot read the rubric: {error.strerror}", "Point to a file of anchors."
            ) from None
        anchors = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                anchors.append(_anchor(orjson.loads(line)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problem = f"field {error} is missing" if isinstance(error, KeyError) else f"{error}"
                raise InputError(
                    f"{path}:{number}: not an anchor: {problem}",
                    'Each line is a JSON object such as {"slot": "A1", "name": "Signal-to-Noise Ratio", ...}.',
                ) from None
        return cls.build(group or path.name.removesuffix(".jsonl").removesuffix("_dim_anchors"), anchors, str(path))

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


def _anchor(value: dict[str, Any]) -> Anchor:
    return Anchor(
        slot=str(value["slot"]),
        name=str(value["name"]),
        cluster_size=int(value.get("cluster_size", 0)),
        exemplar=_reference(value.get("exemplar") or {"record": "", "score": 0, "reason": ""}),
        near_names=tuple(str(n) for n in value.get("near_names", ())),
        references=tuple(_reference(r) for r in value.get("references", ())),
        cohesion=value.get("cohesion"),
    )


def _reference(value: dict[str, Any]) -> Reference:
    return Reference(
        record=str(value.get("record", "")),
        score=float(value["score"]),
        reason=str(value["reason"]),
        source=str(value.get("source", "")),
        dimension=str(value.get("dimension", "")),
    )
