"""Selections by the student's and by the cascade's scores, side by side, in run folders inside the run folder."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mira.errors import RunError
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.selection.stage import select_from
from mira.selection.values import SelectionInputs

__all__ = ["select_by", "student_selection"]

_READ = ("index", "groups.json", "rubrics", "reliability.parquet", "flags", "labels", "students", "scores", "cascade")
_FOLDERS = {"student": "uncascaded", "cascade": "cascaded"}


def student_selection(inputs: SelectionInputs) -> RunFolder:
    """Return a run folder whose selection was made by the student's scores.

    It is the run's own, unless the run selects by the cascade's scores: a cascade always starts from the student's
    selection, so that running it twice asks for the same records.

    Raises:
        RunError: There is no selection yet, or it was not made of judgements.
        MiraError: It cannot be made; see `select_from`.
    """
    run, select = inputs.run, inputs.select
    if select.method != "mira":
        raise RunError(
            f"the settings select by '{select.method}'",
            "A cascade refines judgements: select with method mira.",
        )
    if select.scores != "student":
        return select_by("student", inputs)
    if not run.thresholds.is_file():
        raise RunError(f"{run.thresholds} is not there yet", "Run `mira select` first: the cascade needs thresholds.")
    thresholds = read_json(run.thresholds)
    if thresholds.get("method", "mira") != "mira":
        raise RunError(
            f"{run.thresholds}: the selection was made by '{thresholds['method']}'",
            "A cascade refines judgements: select with method mira.",
        )
    if thresholds.get("scores", "student") != "student":
        raise RunError(f"{run.thresholds}: the selection was made by the cascade's scores", "Run `mira select` again.")
    return run


def select_by(scores: Literal["student", "cascade"], inputs: SelectionInputs) -> RunFolder:
    """Select by the student's scores or the cascade's, in a folder of its own inside the run folder.

    The folder shares everything but the selection with the run, by links; kept records are not copied. The mask is
    the run's in both cases: that of the cheap student.

    Raises:
        MiraError: The selection cannot be made; see `select_from`.
    """
    run = inputs.run
    view = RunFolder(run.path / _FOLDERS[scores])
    view.path.mkdir(exist_ok=True)
    for name in _READ:
        if (run.path / name).exists():
            _link(view.path / name, run.path / name)
    settings = inputs.select.model_copy(update={"scores": scores, "write_selected": False})
    select_from(replace(inputs, run=view, corpus=replace(inputs.corpus, run=view.path), select=settings))
    return view


def _link(link: Path, target: Path) -> None:
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == relative:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(relative, target_is_directory=target.is_dir())
