"""`mira review` without its server: the sample, forms in and out, and the figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import RunError
from mira.pipeline.runner import run_extra
from mira.progress import Log, Quiet
from mira.reviewing.exchange import check_forms, export_forms, import_forms
from mira.reviewing.measure import measure
from mira.reviewing.results import ReviewResult
from mira.reviewing.sample import Sample, sample_of
from mira.run_folder.lock import LockHeld, lock_file, unlock_file
from mira.run_folder.paths import RunFolder
from mira.run_folder.probe import probe
from mira.run_folder.stored import place_path

__all__ = ["prepare", "review"]


def review(
    config: Config | Path | str,
    *,
    export: Path | str = "",
    imports: Iterable[Path | str] | Path | str = (),
    reviewer: str = "",
    slots: bool = False,
    log: Log | None = None,
) -> ReviewResult:
    """Compare people's judgements of a blind sample with the selection, the teacher and the student.

    Draws the sample if needed. `mira review` serves it; here it is exported as forms, and filled forms are imported.

    Args:
        config: The settings, or the path of their file.
        export: A new file for the forms: .csv or .jsonl.
        imports: Filled forms.
        reviewer: Who filled in the imported rows that name nobody; on export, whose judgements are filled in.
        slots: Whether forms ask for scores of the slots, too.
        log: Where progress goes; nowhere by default.

    Returns:
        What all judgements say of the current selection.

    Raises:
        MiraError: There is no selection yet, a form is wrong (nothing is imported then), or another process works in
            the run.
    """
    files = [place_path(file) for file in ([imports] if isinstance(imports, str | Path) else imports)]
    form = place_path(export) if export else None
    if form:
        probe(form, "--export")
    check_forms(form, files, reviewer)
    settings = config if isinstance(config, Config) else load_config(config)

    return run_extra(settings, lambda c, r, log: _review(c, r, log, form, files, reviewer, slots=slots), log or Quiet())


def prepare(config: Config, run: RunFolder, log: Log) -> Sample:
    """Return the run's sample; draw it if needed, one process at a time.

    Raises:
        RunError: Nothing is selected yet, or another process draws the sample.
    """
    run.human.mkdir(parents=True, exist_ok=True)
    try:
        lock = lock_file(run.human / ".lock")
    except LockHeld as held:
        raise RunError(f"{run.human}: {held.holder} is drawing the sample", "Try again in a moment.") from None
    try:
        sample, current = sample_of(config.review, config.seed, run)
    finally:
        unlock_file(lock)
    if not current:
        log.note(
            "review: the sample was drawn under other settings or for another selection; it stays, as it is judged"
        )
    return sample


def _review(
    config: Config, run: RunFolder, log: Log, form: Path | None, files: Sequence[Path], reviewer: str, *, slots: bool
) -> ReviewResult:
    sample = prepare(config, run, log)
    if files:
        log.note(f"imported {import_forms(run, sample, files, reviewer=reviewer)}")
    if form is not None:
        n = export_forms(config.corpus, run, sample, form, reviewer=reviewer, slots=slots)
        log.note(f"wrote {n:,} records to {form}")
    return measure(config, run, log)
