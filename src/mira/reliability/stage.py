"""Stage 3: labels and predictions -> reliability.parquet, one row a cell."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mira.config.settings import Config, ReliabilitySettings
from mira.grouping.groups import Group, load_groups
from mira.progress import Log
from mira.reliability.ceiling import Ceilings, ceilings
from mira.reliability.cells import GroupMeasure, Measure, measure_group
from mira.reliability.evidence import GroupEvidence, Predictions, collect, read_labels, read_predictions
from mira.reliability.foreign import FOREIGN_FIELDS, foreign_rows
from mira.reliability.group_summary import GroupSummary
from mira.reliability.masking import Verdict, verdicts
from mira.reliability.shrinkage import Shrunken, shrink
from mira.reliability.summary import plain, source_notes, summarise
from mira.rubric.mask_file import read_mask
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns, slot_name
from mira.run_folder.files import write_parquet
from mira.run_folder.paths import RunFolder
from mira.stage import Stage, reads

__all__ = ["RELIABILITY_SCHEMA", "STAGE", "load_evidence", "reliability"]

RELIABILITY_SCHEMA = pa.schema(
    [
        ("group", pa.string()),
        ("source", pa.string()),
        ("slot", pa.string()),
        ("name", pa.string()),
        ("n", pa.int64()),
        ("n_held_out", pa.int64()),
        ("mae", pa.float64()),
        ("rho", pa.float64()),
        ("rho_low", pa.float64()),
        ("rho_high", pa.float64()),
        ("ceiling", pa.float64()),
        ("rho_held_out", pa.float64()),
        ("mae_held_out", pa.float64()),
        ("mae_constant", pa.float64()),
        ("skill", pa.float64()),
        ("spread_teacher", pa.float64()),
        ("spread_student", pa.float64()),
        ("level", pa.string()),
        ("masked", pa.bool_()),
        ("why", pa.string()),
        ("n_evidence", pa.int64()),
        ("n_pairs", pa.int64()),
        ("rho_shrunken", pa.float64()),
        ("rho_shrunken_low", pa.float64()),
        ("rho_shrunken_high", pa.float64()),
    ]
)
"""Columns of reliability.parquet. Figures that cannot be had are null.

`n` labels with a prediction in the cell; `mae`, `rho`, `rho_low`, `rho_high`, `mae_constant` and `skill` are those of
`level`: the cell's own, or its slot's over the whole group with sources centred (`n_evidence` labels); at level "none"
the cell's own, for people. `rho_held_out` and `mae_held_out` are the cell's, over its `n_held_out` held-out labels.
`ceiling` rests on `n_pairs` doubly judged records. `rho_shrunken` is the cell's own rho, drawn towards the means of its
slot and source by empirical Bayes, with its interval; nothing is masked by it. Spreads are the cell's own standard
deviations.
"""


def reliability(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Judge every (source, slot) cell of every group and write reliability.parquet.

    A group without labels takes the mask file of the settings, if one is given.

    Returns:
        Counts of cells over all groups and a summary a group: means, baselines, spreads.

    Raises:
        InputError: The given mask file is wrong.
        RunError: A stage before has not run, or its output belongs to another rubric or grouping.
    """
    settings, groups = config.reliability, load_groups(run)
    rows: list[dict[str, Any]] = []
    summaries: dict[str, GroupSummary] = {}
    with log.task("reliability", total=len(groups)) as task:
        for group in groups:
            if settings.mask and not run.labels(group.name).exists():
                rows += _given_rows(run, group, Path(settings.mask))
                log.note(f"{group.name}: no labels; cells are masked as {settings.mask} says")
            else:
                found, summaries[group.name] = _measured(run, group, settings, config.seed)
                rows += found
                for note in source_notes(group.name, summaries[group.name]):
                    log.note(note)
            task.advance()
    write_parquet(run.reliability, pa.Table.from_pylist(rows, schema=RELIABILITY_SCHEMA))
    foreign = foreign_rows(run, groups, config.scores, settings, _figures, config.seed)
    _write_foreign(run, foreign, log)
    masked = Counter(str(row["why"]).partition(":")[0] for row in rows if row["masked"])
    return {
        "cells": {"total": len(rows), "masked": masked.total(), "by_reason": dict(sorted(masked.items()))},
        "thresholds": settings.model_dump(exclude={"mask"}),
        "groups": plain({name: asdict(summary) for name, summary in summaries.items()}),
        **({"foreign": {"total": len(foreign), "masked": sum(row["masked"] for row in foreign)}} if foreign else {}),
    }


def _write_foreign(run: RunFolder, rows: list[dict[str, Any]], log: Log) -> None:
    if not rows:
        run.foreign_slots.unlink(missing_ok=True)
        return
    schema = pa.schema([*RELIABILITY_SCHEMA, *FOREIGN_FIELDS])
    write_parquet(run.foreign_slots, pa.Table.from_pylist(rows, schema=schema))
    for row in rows:
        if row["masked"]:
            log.note(f"score {row['slot']}, {row['source']}: masked: {row['why']}")


def _measured(
    run: RunFolder, group: Group, settings: ReliabilitySettings, seed: int
) -> tuple[list[dict[str, Any]], GroupSummary]:
    evidence = load_evidence(run, group)
    measure = measure_group(evidence, bootstrap=settings.bootstrap, confidence=settings.interval, seed=seed)
    ceiling = ceilings(evidence, settings.min_pairs, bootstrap=settings.bootstrap, seed=seed)
    decided = verdicts(measure, settings)
    summary = summarise(evidence, measure, ceiling, decided, settings.interval)
    shrunken = shrink(measure.rho, measure.samples, settings.interval)
    return _rows(evidence, measure, ceiling, decided, shrunken), summary


def _given_rows(run: RunFolder, group: Group, path: Path) -> list[dict[str, Any]]:
    anchors = Rubric.load(run.rubric(group.name)).anchors
    mask = read_mask(path, group.sources, [a.slot for a in anchors])
    return [
        {
            "group": group.name,
            "source": source,
            "slot": anchor.slot,
            "name": anchor.name,
            **dict.fromkeys(("n", "n_held_out", "n_evidence", "n_pairs"), 0),
            "level": "none",
            "masked": (source, anchor.slot) in mask,
            "why": f"given: {mask[source, anchor.slot]}" if (source, anchor.slot) in mask else None,
        }
        for source in group.sources
        for anchor in anchors
    ]


def load_evidence(run: RunFolder, group: Group) -> GroupEvidence:
    """Read a group's labels and its student's predictions from the run folder.

    Raises:
        RunError: They are not there, or do not belong together.
    """
    labels = read_labels(run.labels(group.name))
    slots = slot_columns(labels.schema.names)
    names = [a.name for a in Rubric.load(run.rubric(group.name)).anchors]
    student = run.student(group.name)
    predictions = Predictions(
        out_of_fold=read_predictions(student / "out_of_fold.parquet", slots),
        held_out=read_predictions(student / "held_out.parquet", slots),
    )
    return collect(group.name, names, group.sources, labels, predictions)


def _rows(
    evidence: GroupEvidence,
    measure: GroupMeasure,
    ceiling: Ceilings,
    decided: tuple[tuple[Verdict, ...], ...],
    shrunken: Shrunken,
) -> list[dict[str, Any]]:
    return [
        {
            "group": evidence.group,
            "source": source.source,
            "slot": slot_name(j),
            "name": name,
            **_figures(measure.cells[i][j], measure.held_out[i][j], decided[i][j]),
            "ceiling": _known(ceiling.rho[i, j]),
            "n_pairs": int(ceiling.pairs[i, j]),
            "rho_shrunken": _known(shrunken.rho[i, j]),
            "rho_shrunken_low": _known(shrunken.low[i, j]),
            "rho_shrunken_high": _known(shrunken.high[i, j]),
        }
        for i, source in enumerate(evidence.sources)
        for j, name in enumerate(evidence.names)
    ]


def _figures(cell: Measure, held_out: Measure, verdict: Verdict) -> dict[str, Any]:
    used = verdict.evidence or cell
    return {
        "n": cell.n,
        "n_held_out": held_out.n,
        "n_evidence": used.n,
        "mae": _known(used.mae),
        "rho": _known(used.rho),
        "rho_low": _known(used.low),
        "rho_high": _known(used.high),
        "mae_constant": _known(used.mae_constant),
        "skill": _known(used.skill),
        "rho_held_out": _known(held_out.rho),
        "mae_held_out": _known(held_out.mae),
        "spread_teacher": _known(cell.spread_teacher),
        "spread_student": _known(cell.spread_student),
        "level": verdict.level,
        "masked": verdict.masked,
        "why": verdict.why,
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _slots(config: Config) -> list[str]:
    """Return the foreign scores that are slots of quality."""
    return [name for name, score in config.scores.items() if score.slot != "none"]


STAGE = Stage(
    name="reliability",
    version=2,
    run=reliability,
    needs=lambda config: ("group", "discover", "label", "distill", *(["join"] if _slots(config) else [])),
    reads=reads("reliability", "scores"),
    unread=lambda config: [f"scores.{name}" for name in config.scores if name not in _slots(config)],
    outputs=lambda run: [run.reliability, *([run.foreign_slots] if run.foreign_slots.is_file() else [])],
)
