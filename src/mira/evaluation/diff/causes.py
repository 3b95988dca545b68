"""What two runs were made from: settings, groups, rubrics, labels, students, masks, thresholds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from mira.corpus.database import listed
from mira.distillation.bundle import SUMS
from mira.evaluation.diff.results import GroupDiff, MaskChange, ScopeDiff
from mira.grouping.groups import Group, load_groups
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder

__all__ = ["changed_stages", "files_of", "group_diffs", "mask_changes", "scope_diffs", "settings_of"]

Manifest = Mapping[str, Any]


def settings_of(a: Manifest, b: Manifest) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Return stage -> setting -> values in both; None where a run has the default."""
    found = {}
    for stage in _stages(a, b):
        old, new = (one["stages"].get(stage, {}).get("inputs", {}).get("settings", {}) for one in (a, b))
        differ = {
            name: (old.get(name), new.get(name))
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        }
        if differ:
            found[stage] = differ
    return found


def files_of(a: Manifest, b: Manifest) -> dict[str, tuple[str, ...]]:
    """Return stage -> names of the files outside the run folder that differ."""
    found = {}
    for stage in _stages(a, b):
        old, new = (one["stages"].get(stage, {}).get("inputs", {}).get("files", {}) for one in (a, b))
        differ = tuple(name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name))
        if differ:
            found[stage] = differ
    return found


def changed_stages(a: Manifest, b: Manifest) -> tuple[str, ...]:
    """Return the stages that gave another output, or ran in one run alone."""
    digests = [{name: record.get("digest") for name, record in one["stages"].items()} for one in (a, b)]
    return tuple(name for name in _stages(a, b) if digests[0].get(name) != digests[1].get(name))


def _stages(a: Manifest, b: Manifest) -> list[str]:
    """Return the stages that ran, but for the report, which shows whatever there is."""
    return [name for name in dict.fromkeys([*a["stages"], *b["stages"]]) if name != "report"]


def group_diffs(con: duckdb.DuckDBPyConnection, a: RunFolder, b: RunFolder) -> dict[str, GroupDiff]:
    """Return what changed in each group's rubric, labels and student; groups of which nothing changed are there too."""
    of_a, of_b = (_groups(run) for run in (a, b))
    found = {}
    for name in sorted(of_a.keys() | of_b.keys()):
        rubrics = [Rubric.load(run.rubric(name)) if run.rubric(name).is_file() else None for run in (a, b)]
        old, new = rubrics
        names = [{anchor.slot: anchor.name for anchor in rubric.anchors} if rubric else {} for rubric in rubrics]
        renamed = (
            tuple(
                f"{slot}: {names[0].get(slot, '-')} -> {names[1].get(slot, '-')}"
                for slot in slot_columns(names[0].keys() | names[1].keys())
                if names[0].get(slot) != names[1].get(slot)
            )
            if old and new
            else ()
        )
        sums = [_content(run.student(name) / SUMS) for run in (a, b)]
        judged = _labels(con, a.labels(name), b.labels(name))
        found[name] = GroupDiff(
            sources_a=of_a[name].sources if name in of_a else None,
            sources_b=of_b[name].sources if name in of_b else None,
            rubric_changed=old.hash != new.hash if old and new else None,
            slots=renamed,
            labelled_a=judged[0],
            labelled_b=judged[1],
            labelled_both=judged[2],
            labels_changed=judged[3],
            student_changed=sums[0] != sums[1] if all(sums) else None,
        )
    return found


def _groups(run: RunFolder) -> dict[str, Group]:
    return {group.name: group for group in load_groups(run)} if run.groups.is_file() else {}


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _labels(con: duckdb.DuckDBPyConnection, a: Path, b: Path) -> tuple[int, int, int, int]:
    """Return judged records in A, in B, in both, and those of both whose first judgement changed."""
    paths = [path for path in (a, b) if path.is_file()]
    counts = [
        con.execute(f"SELECT count(*) FROM read_parquet([{listed([str(p)])}]) WHERE replicate = 0").fetchall()[0][0]
        if p.is_file()
        else 0
        for p in (a, b)
    ]
    if len(paths) < 2:
        return int(counts[0]), int(counts[1]), 0, 0
    columns = [set(slot_columns(pq.read_schema(path).names)) for path in (a, b)]
    shared = [*slot_columns(columns[0] & columns[1]), "overall"]
    differ = " OR ".join(f"x.{name} IS DISTINCT FROM y.{name}" for name in shared)
    both, changed = con.execute(
        f"""SELECT count(*), count(*) FILTER ({differ})
        FROM read_parquet([{listed([str(a)])}]) x JOIN read_parquet([{listed([str(b)])}]) y USING (source, id)
        WHERE x.replicate = 0 AND y.replicate = 0"""
    ).fetchall()[0]
    return int(counts[0]), int(counts[1]), int(both), int(changed)


def mask_changes(a: RunFolder, b: RunFolder) -> tuple[MaskChange, ...]:
    """Return the cells that are masked in one run and trusted in the other."""
    masks = [_mask(run) for run in (a, b)]
    changes = []
    for source, slot in sorted(masks[0].keys() & masks[1].keys(), key=lambda cell: (cell[0], len(cell[1]), cell[1])):
        old, new = masks[0][source, slot], masks[1][source, slot]
        if (old is None) != (new is None):
            masked_in = "A" if new is None else "B"
            changes.append(MaskChange(source=source, slot=slot, masked_in=masked_in, why=old or new or ""))
    return tuple(changes)


def _mask(run: RunFolder) -> dict[tuple[str, str], str | None]:
    """Return (source, slot) -> why it is masked; None where it is trusted."""
    found: dict[tuple[str, str], str | None] = {}
    for path in (run.reliability, run.foreign_slots):
        if path.is_file():
            for row in pq.read_table(path).to_pylist():
                found[row["source"], row["slot"]] = (row.get("why") or "masked") if row["masked"] else None
    return found


def scope_diffs(a: Manifest, b: Manifest) -> dict[str, ScopeDiff]:
    """Return the thresholds of both, given the contents of their thresholds.json."""
    found = {}
    for name in dict.fromkeys([*a["scopes"], *b["scopes"]]):
        old, new = a["scopes"].get(name, {}), b["scopes"].get(name, {})
        found[name] = ScopeDiff(
            threshold_a=old.get("threshold"),
            threshold_b=new.get("threshold"),
            tokens_kept_a=old.get("tokens_kept"),
            tokens_kept_b=new.get("tokens_kept"),
        )
    return found
