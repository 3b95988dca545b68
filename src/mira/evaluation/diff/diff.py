"""`mira diff`: what changed between two runs, and why."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pydantic import ValidationError

from mira.arrays import Floats
from mira.config.settings import SelectSettings
from mira.corpus.database import connect
from mira.errors import RunError
from mira.evaluation.diff.causes import changed_stages, files_of, group_diffs, mask_changes, scope_diffs, settings_of
from mira.evaluation.diff.records import Side, source_diff
from mira.evaluation.diff.results import Anchors, DiffResult, Flipped, SourceDiff
from mira.evaluation.diff.words import summary
from mira.evaluation.yardsticks import labelled_scores, qualities
from mira.grouping.groups import load_groups
from mira.progress import Log
from mira.reliability.evidence import read_labels
from mira.reliability.foreign import overall_of
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from mira.selection.quality import load_mask
from mira.selection.yardstick.figures import Kept
from mira.selection.yardstick.yardsticks import load_yardsticks
from mira.stats import rank_moments

__all__ = ["Chosen", "diff"]

Manifest = Mapping[str, Any]


def diff(a: RunFolder, b: RunFolder, manifests: tuple[Manifest, Manifest], log: Log, *, flips: int = 3) -> DiffResult:
    """Compare two runs with a finished selection. Nothing is written into them.

    Args:
        a: The first run.
        b: The second.
        manifests: Their manifests.
        log: Where progress goes.
        flips: Flipped records to show per source.

    Raises:
        RunError: A run has selected nothing.
        ConservationError: A run's records do not add up.
    """
    for run in (a, b):
        if not run.thresholds.is_file():
            raise RunError(f"{run.path}: nothing is selected yet", "Run it first: mira run CONFIG")
    chosen = [read_json(run.thresholds) for run in (a, b)]
    sides = [
        _side(run, manifest, thresholds) for run, manifest, thresholds in zip((a, b), manifests, chosen, strict=True)
    ]
    notes = tuple(
        dict.fromkeys(note for side, thresholds in zip(sides, chosen, strict=True) for note in _notes(side, thresholds))
    )
    names = list(dict.fromkeys([*chosen[0]["sources"], *chosen[1]["sources"]]))
    sources: dict[str, SourceDiff] = {}
    shown: list[Flipped] = []
    with (
        tempfile.TemporaryDirectory(prefix="mira-diff-") as folder,
        connect(RunFolder(Path(folder)), alone=True) as con,
    ):
        groups = group_diffs(con, a, b)
        with log.task("diff", len(names)) as task:
            for source in names:
                sources[source], flipped = source_diff(con, sides[0], sides[1], source, flips)
                shown += flipped
                task.advance()
    result = DiffResult(
        a=str(a.path),
        b=str(b.path),
        settings=settings_of(*manifests),
        files=files_of(*manifests),
        stages=changed_stages(*manifests),
        groups=groups,
        masks=mask_changes(a, b),
        scopes=scope_diffs(*chosen),
        sources=sources,
        flips=tuple(shown),
        anchors=_anchors(sides),
        notes=notes,
    )
    return replace(result, summary=tuple(summary(result)))


def _side(run: RunFolder, manifest: Manifest, thresholds: Mapping[str, Any]) -> Side:
    given = manifest["stages"].get("select", {}).get("inputs", {}).get("settings", {})
    select = _select({name.partition(".")[2]: value for name, value in given.items() if name.startswith("select.")})
    kept = read_result(Kept, run.kept) if run.kept.is_file() else Kept()
    used = {name: found.slots for name, found in kept.sources.items() if found.slots}
    if not used and thresholds["method"] == "mira" and run.reliability.is_file():
        used = load_mask(run)
    found = {name: told.get("threshold") for name, told in thresholds["sources"].items()}
    by_length = "length" in thresholds
    return Side(
        run,
        select,
        used,
        {name: float(cut) for name, cut in found.items() if cut is not None and not by_length},
        {name: told["records_in"] for name, told in thresholds["sources"].items()},
        thresholds["method"] == "mira" and select.compare_by != "centred" and not thresholds.get("temperature"),
    )


def _select(given: Mapping[str, Any]) -> SelectSettings:
    """Return the settings of a selection as its manifest has them; what cannot be read any longer is left out."""
    try:
        return SelectSettings.model_validate(given)
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        left = {name: value for name, value in given.items() if name not in wrong}
        return _select(left) if wrong and len(left) < len(given) else SelectSettings()


def _notes(side: Side, thresholds: Mapping[str, Any]) -> list[str]:
    method = thresholds["method"]
    if method != "mira":
        return [f"{side.run.path.name} ranks by {method}: its values are not made of slots"]
    if not side.plain:
        return [f"{side.run.path.name}: quality is centred or has noise, so its change is not taken apart by slots"]
    if "length" in thresholds:
        return [f"{side.run.path.name}: thresholds depend on length, so flips have no threshold of their own"]
    return []


class Chosen:
    """What a run says of labelled records: the teacher's overall score, quality, and whether they are kept."""

    def __init__(self, side: Side) -> None:
        run = side.run
        self.overall: dict[tuple[str, str], float] = {}
        for group in load_groups(run) if run.groups.is_file() else []:
            if run.labels(group.name).is_file():
                labels = read_labels(run.labels(group.name))
                for source in group.sources:
                    ids, values = overall_of(labels, source)
                    self.overall |= {(source, id): v for id, v in zip(ids.to_pylist(), values.tolist(), strict=True)}
        self.quality = _fair(side) if self.overall else {}

    @staticmethod
    def kept(side: Side, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        """Return which of some records a run keeps."""
        found: dict[tuple[str, str], bool] = {}
        for source in dict.fromkeys(source for source, _ in keys):
            ids = pa.array([id for own, id in keys if own == source], pa.string())
            paths = side.selection(source)
            if paths:
                table = ds.dataset(paths).to_table(columns=["id", "kept"], filter=ds.field("id").isin(ids))
                found |= {
                    (source, i): k for i, k in zip(table["id"].to_pylist(), table["kept"].to_pylist(), strict=True)
                }
        return found


def _fair(side: Side) -> dict[tuple[str, str], float]:
    """Return the quality of labelled records by models that did not see their labels."""
    if not side.run.reliability.is_file():
        return {}
    table = labelled_scores(side.run, load_groups(side.run))
    if table is None:
        return {}
    values = qualities(side.select, side.run, table, load_yardsticks(side.select, side.run))
    known = zip(table["source"].to_pylist(), table["id"].to_pylist(), values.tolist(), strict=True)
    return {(source, id): value for source, id, value in known if np.isfinite(value)}


def _anchors(sides: Sequence[Side]) -> Anchors | None:
    """Measure both runs on the records that both teachers judged; None if there are no such records."""
    old, new = (Chosen(side) for side in sides)
    keys = sorted(old.overall.keys() & new.overall.keys())
    if not keys:
        return None
    x, y = (np.array([one.overall[key] for key in keys]) for one in (old, new))
    kept = [Chosen.kept(side, keys) for side in sides]
    both = [key for key in keys if key in kept[0] and key in kept[1]]

    def share(found: Mapping[tuple[str, str], bool]) -> float | None:
        return float(np.mean([found[key] for key in both])) if both else None

    return Anchors(
        records=len(keys),
        teachers=_within(keys, x, y),
        teacher_shift=float((y - x).mean()),
        student_a=_within(keys, np.array([old.quality.get(key, np.nan) for key in keys]), x),
        student_b=_within(keys, np.array([new.quality.get(key, np.nan) for key in keys]), y),
        kept_a=share(kept[0]),
        kept_b=share(kept[1]),
        kept_both=float(np.mean([kept[0][key] == kept[1][key] for key in both])) if both else None,
    )


def _within(keys: Sequence[tuple[str, str]], x: Floats, y: Floats) -> float | None:
    """Return Spearman's rho with ranks taken within sources."""
    sources = np.array([source for source, _ in keys])
    parts = [rank_moments(x[sources == name], y[sources == name]) for name in np.unique(sources)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    rho = float(total.rho[0])
    return rho if np.isfinite(rho) else None
