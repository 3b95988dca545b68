"""The functions `mira.audit` and `mira.diff`: what a scorer, or a change of a run, is worth."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import RunError
from mira.evaluation.audit import audit as audits
from mira.evaluation.audit.audit import Labels
from mira.evaluation.audit.bare import BareFiles, audit_files
from mira.evaluation.audit.results import AuditResult
from mira.evaluation.diff import diff as differences
from mira.evaluation.diff.results import DiffResult
from mira.pipeline.manifest import read_manifest
from mira.pipeline.runner import run_extra
from mira.progress import Log, Quiet
from mira.reviewing.journal import DROP, KEEP, read_all
from mira.run_folder.paths import RunFolder
from mira.run_folder.stored import run_path

__all__ = ["audit", "diff", "human_verdicts"]


def audit(
    config: Config | Path | str | None = None,
    scorers: Iterable[str] = (),
    *,
    by: Iterable[str] = (),
    against: str = "",
    reference: str = "",
    files: BareFiles | None = None,
    log: Log | None = None,
) -> AuditResult:
    """Audit scorers: agreement, what the source alone explains, length, ties, strata, planted faults, drift.

    People's judgements are those of `mira review`. Give a run's settings, or the files of a corpus that has no run.

    Args:
        config: The settings, or the path of their file. Writes audit.json into the run.
        scorers: `quality` (the student's) and names of `scores`; all of the run by default.
        by: Fields of the records, such as meta.lang: are their values judged differently at equal quality?
        against: Another scorer, to measure drift against.
        reference: A scorer that stands in for the teacher.
        files: A file of scores and its records, in the place of `config`; they say what else is compared.
        log: Where progress goes; nowhere by default.

    Raises:
        MiraError: A scorer is unknown, there is no run yet, or a file cannot be read.
        TypeError: Not exactly one of `config` and `files` is given.
    """
    if (config is None) == (files is None):
        raise TypeError("mira.audit takes settings or files")
    log, names, fields = log or Quiet(), list(scorers), list(by)
    if files is not None:
        return audit_files(files, fields, log)

    def here(c: Config, r: RunFolder, log: Log) -> AuditResult:
        said = human_verdicts(r)
        return audits.audit(c, r, log, names=names, by=fields, against=against, reference=reference, humans=said)

    settings = config if isinstance(config, Config) else load_config(config or "")
    return run_extra(settings, here, log)


def diff(run_a: Path | str, run_b: Path | str, *, flips: int = 3, log: Log | None = None) -> DiffResult:
    """Say what changed between two runs, and why: settings, labels, rubrics, students, masks, thresholds, records.

    Nothing is written into the runs.

    Args:
        run_a: The first run: its folder, or its settings file.
        run_b: The second run.
        flips: Flipped records to return per source.
        log: Where progress goes; nowhere by default.

    Raises:
        MiraError: There is no run, nothing is selected yet, or a run's records do not add up.
    """
    a, b = (_run(given) for given in (run_a, run_b))
    return differences.diff(a, b, (read_manifest(a), read_manifest(b)), log or Quiet(), flips=flips)


def _run(given: Path | str) -> RunFolder:
    """Return the run folder that a folder or a settings file means."""
    path = run_path(given)
    if path.is_file():
        return RunFolder(load_config(path).run)
    run = RunFolder(path)
    if not run.manifest.is_file() and (path / "run" / "manifest.json").is_file():
        run = RunFolder(path / "run")
    if not run.manifest.is_file():
        raise RunError(f"{path}: there is no run here", "Name a run folder, or the settings of a run.")
    return run


def human_verdicts(run: RunFolder) -> Labels:
    """Return, source by source, the share of reviewers that would keep each record; those who skipped it left out."""
    judgements = read_all(run)
    votes: dict[str, dict[str, list[float]]] = {}
    for reviewer in judgements.history:
        for (source, id), one in judgements.latest(reviewer).items():
            if one.verdict in (KEEP, DROP):
                votes.setdefault(source, {}).setdefault(id, []).append(float(one.verdict == KEEP))
    return {
        source: (pa.array(sorted(own), pa.string()), np.array([np.mean(own[id]) for id in sorted(own)]))
        for source, own in votes.items()
    }
