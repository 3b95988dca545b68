"""Selections by the student's and by the cascade's scores, side by side, in run folders inside the run folder."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mira.errors import RunError
from mira.run_folder.paths import RunFolder
from mira.run_folder.working_copy import fetch
from mira.selection.stage import is_selected, select_from
from mira.selection.values import SelectionInputs

__all__ = ["select_by", "student_selection"]

_READ = ("index", "groups.json", "rubrics", "reliability.parquet", "flags", "labels", "students", "scores", "cascade")
_FOLDERS = {"student": "uncascaded", "cascade": "cascaded"}


def student_selection(inputs: SelectionInputs) -> RunFolder:
    """Return a run folder whose selection is the one that these settings give by the student's scores.

    It is the run's own if that was made under the same settings, from the same scores and masks; else the selection is
    made anew in `uncascaded/`. So whatever is compared with it differs by the scores alone, and running a cascade twice
    asks for the same records.

    Raises:
        RunError: The settings do not select by judgements, or with noise.
        MiraError: The selection cannot be made; see `select_from`.
    """
    select = inputs.select
    if select.method != "mira":
        raise RunError(
            f"the settings select by '{select.method}'",
            "A cascade refines judgements: select with method mira.",
        )
    if select.temperature:
        raise RunError(
            "select.temperature adds noise to the ranking, so no record is near a threshold by its quality",
            "Run the cascade with --set select.temperature=0.",
        )
    if select.scores == "student" and is_selected(inputs):
        return inputs.run
    return select_by("student", inputs)


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
            fetch([run.path / name])  # which a link does not
            _link(view.path / name, run.path / name)
    settings = inputs.select.model_copy(update={"scores": scores, "write_selected": False})
    view_of = replace(inputs, run=view, corpus=replace(inputs.corpus, run=view.path), select=settings)
    select_from(view_of, figures=False)
    return view


def _link(link: Path, target: Path) -> None:
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == relative:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(relative, target_is_directory=target.is_dir())
