"""The students that a group has: the run's own, others beside it, and bundles from elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mira.distillation.bundle import read_bundle
from mira.errors import InputError, RunError
from mira.grouping.groups import Group, load_groups
from mira.reliability.evidence import Predictions, read_predictions
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

__all__ = ["StudentCandidate", "check_compared", "find_students"]

_COST = ("encoder", "head", "sft", "endpoint")
"""Kinds from cheap to dear."""


@dataclass(frozen=True, slots=True)
class StudentCandidate:
    """A group's student that can be compared.

    Attributes:
        name: Unique in its group: its kind, with the folder where two are of one kind.
        kind: "encoder", "head", "sft" or "endpoint".
        folder: Its bundle.
        predictions: What it says of labelled records.
    """

    name: str
    kind: str
    folder: Path
    predictions: Predictions


def find_students(
    run: RunFolder, group: Group, slots: Sequence[str], compare: Sequence[str] = ()
) -> list[StudentCandidate]:
    """Return a group's students with predictions, from cheap to dear.

    They are the run's `students/<group>/`, folders beside it whose name goes on from the group's (`<group>_sft/`), and
    those of the bundles in `distill.compare` that score by the group's rubric.

    Args:
        run: The run folder.
        group: The group.
        slots: Slot columns of the labels.
        compare: `distill.compare`.

    Raises:
        InputError: A bundle cannot be read.
        RunError: The run's student scores by another rubric, or no student has predictions.
    """
    rubric = Rubric.load(run.rubric(group.name), group.name).hash
    own = run.student(group.name)
    others = [g.name for g in load_groups(run) if g.name.startswith(group.name)]
    beside = [f for f in sorted(own.parent.glob(f"{group.name}?*")) if f.is_dir() and f.name not in others]
    folders = [own, *beside, *(b for entry in compare for b in _bundles(Path(entry)))]
    found = []
    for folder in dict.fromkeys(f for f in folders if (f / "bundle.json").is_file()):
        facts = read_bundle(folder)
        if facts.get("rubric") != rubric:
            if folder in (own, *beside):
                raise RunError(f"{folder}: the student scores by another rubric", "Run `mira distill` again.")
            continue
        predictions = Predictions(
            out_of_fold=read_predictions(folder / "out_of_fold.parquet", slots),
            held_out=read_predictions(folder / "held_out.parquet", slots),
        )
        if predictions.out_of_fold or predictions.held_out:
            found.append(StudentCandidate("", facts["kind"], folder, predictions))
    if not found:
        raise RunError(f"{group.name}: no student has predictions of labelled records", "Run `mira distill` first.")
    return list(_named(sorted(found, key=lambda s: _COST.index(s.kind) if s.kind in _COST else len(_COST))))


def check_compared(run: RunFolder, compare: Sequence[str]) -> None:
    """Check that every entry of `distill.compare` holds a bundle for a group of the run.

    Raises:
        InputError: One does not.
    """
    rubrics = {Rubric.load(run.rubric(g.name), g.name).hash for g in load_groups(run)}
    for entry in compare:
        bundles = list(_bundles(Path(entry)))
        if not bundles:
            raise InputError(
                f"distill.compare: {entry} is not a bundle and holds no bundle", "Name a folder with bundle.json."
            )
        if not any(read_bundle(folder).get("rubric") in rubrics for folder in bundles):
            raise InputError(
                f"distill.compare: {entry} scores by a rubric that no group of this run has",
                "Students can be compared on one rubric only: train or serve one with this run's rubrics.",
            )


def _bundles(folder: Path) -> Iterator[Path]:
    """Yield the bundle itself, or the bundles inside, e.g. of another run's students folder."""
    inside = sorted(f for f in folder.glob("*") if (f / "bundle.json").is_file())
    yield from [folder] if (folder / "bundle.json").is_file() else inside


def _named(students: Sequence[StudentCandidate]) -> Iterator[StudentCandidate]:
    kinds = [s.kind for s in students]
    for s in students:
        name = s.kind if kinds.count(s.kind) == 1 else f"{s.kind} {s.folder}"
        yield StudentCandidate(name, s.kind, s.folder, s.predictions)
