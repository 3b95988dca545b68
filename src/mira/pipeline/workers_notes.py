"""What workers wrote since a stage last ran: their notes tell it from damage.

`workers/<step>-<number>-of-<all>.json` of the run folder: path -> hash. A stage that runs again keeps these files; it
removes others that are not as it left them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mira.pipeline.outputs import measure
from mira.run_folder.files import read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.stage import Share, Stage

__all__ = ["forget_notes", "note_files", "noted"]


def note_files(run: RunFolder, step: str, share: Share, paths: Iterable[Path]) -> None:
    """Note files that a worker has put in place, beside what it noted before.

    Args:
        run: The run folder.
        step: The worker's step.
        share: Its share of the shards.
        paths: The files.
    """
    new = {name: content for name, (*_, content) in measure(run, [p for p in paths if p.is_file()]).items()}
    path = run.path / "workers" / f"{step}-{share.index}-of-{share.of}.json"
    if new:
        write_json(path, {**_read(path), **new})


def noted(run: RunFolder, stage: Stage) -> set[tuple[str, str]]:
    """Return (path in the run folder, hash) of the files that workers noted of a stage."""
    return {pair for path in _notes(run, stage) for pair in _read(path).items()}


def forget_notes(run: RunFolder, stage: Stage) -> None:
    """Remove the notes of a stage: it has run, and what it left is recorded."""
    for path in _notes(run, stage):
        path.unlink(missing_ok=True)


def _notes(run: RunFolder, stage: Stage) -> list[Path]:
    folder = run.path / "workers"
    return [path for step in stage.steps for path in sorted(folder.glob(f"{step.name}-*-of-*.json"))]


def _read(path: Path) -> Mapping[str, str]:
    try:
        return {str(name): str(content) for name, content in read_json(path).items()}
    except (OSError, ValueError, AttributeError):  # missing or damaged: the shards are done again
        return {}
