"""Files of a run that are not as their stage left them: found, refused, and removed before they are written again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mira.config.settings import Config
from mira.errors import RunError
from mira.pipeline.outputs import Sums, changed, digest_of, load_sums, measure
from mira.pipeline.workers_notes import noted
from mira.run_folder.files import remove_folder
from mira.run_folder.paths import RunFolder
from mira.stage import Stage

__all__ = ["Output", "check_output", "refuse_changed", "refuse_damage", "remove_all", "remove_damaged", "resumed_name"]


class Output(NamedTuple):
    """A stage's output: files that are not as the stage left them, what there is now, and what was recorded."""

    changed: list[str]
    sums: Sums
    recorded: Sums | None


def check_output(stage: Stage, run: RunFolder, record: Mapping[str, Any]) -> Output:
    """Compare a stage's files with what was recorded; `record` is what the manifest says of its last run."""
    recorded = load_sums(run, stage.name)
    known = recorded
    if known is not None and digest_of(known) != record["digest"]:
        known = None  # of another run of the stage
    found = measure(run, stage.outputs(run), known)
    if known is not None:
        return Output(changed(known, found), found, recorded)
    same = digest_of(found) == record["digest"]
    return Output([] if same else [f"a file of stage '{stage.name}'"], found, recorded)


def refuse_damage(stage: Stage, run: RunFolder, damaged: Sequence[str]) -> None:
    """Refuse to read what is not as its stage left it, except what a user may edit (`Stage.edited`).

    Args:
        stage: The stage whose output is about to be read.
        run: The run folder.
        damaged: Its files that were changed or removed.

    Raises:
        RunError: There are some; names the first.
    """
    if damaged and stage.edited is None:
        raise RunError(
            f"stage '{stage.name}': its output in {run.path} was changed or removed: {damaged[0]}",
            f"Run `mira {stage.name} CONFIG` or `mira run CONFIG`: both write damaged files again.",
        )


def refuse_changed(stages: Iterable[Stage], run: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Refuse files whose content has changed, of any stage that ever ran; those that were removed are not read.

    Raises:
        RunError: There is such a file.
    """
    for stage in stages:
        if record := manifest["stages"].get(stage.name):
            output = check_output(stage, run, record)
            refuse_damage(stage, run, [name for name in output.changed if name in output.sums])


def remove_damaged(stage: Stage, config: Config, run: RunFolder, record: Mapping[str, Any]) -> None:
    """Remove what is not as the stage left it from where it goes on; all of it where nothing tells which files are.

    What workers wrote since is kept.
    """
    resumed = stage.resumed(config, run)
    known = load_sums(run, resumed_name(stage))
    if known is None:
        if resumed and check_output(stage, run, record).changed:
            remove_all(resumed)
        return
    found, of_workers = measure(run, resumed, known), noted(run, stage)
    for name in known.keys() & found.keys():
        if known[name][3] != found[name][3] and (name, found[name][3]) not in of_workers:
            (run.path / name).unlink()


def resumed_name(stage: Stage) -> str:
    """Return the name under which the files are recorded that a stage goes on from."""
    return f"{stage.name}.resumed"


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files and folders; those that are not there do not matter."""
    for path in paths:
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
