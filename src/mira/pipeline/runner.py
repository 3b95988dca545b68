"""Runs the stages in order: their fingerprints, and what is redone when something changes.

A stage's fingerprint is the hash of its code version, the settings that it reads, the files that it is given and the
digests of the stages that it builds on. Same fingerprint and its output is there: skipped. Different: redone. A digest
is the hash of a stage's output, so a change that leaves an output as it was stops there.

Output that is not as its stage left it is removed and made anew. The failure budget is checked at every command, from
the counts in the manifest.
"""

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mira.config.settings import Config, SourceSettings
from mira.corpus.provenance import check_provenance
from mira.errors import ConfigError, RunError, way_out
from mira.grouping.groups import load_groups
from mira.leased.only_one import alone_at_url
from mira.llm.cost import shared_spending
from mira.pipeline.damage import (
    Output,
    check_output,
    refuse_changed,
    refuse_damage,
    remove_all,
    remove_damaged,
    resumed_name,
)
from mira.pipeline.fingerprints import changes, stage_files, stage_settings
from mira.pipeline.manifest import read_manifest
from mira.pipeline.outputs import changed, digest_of, load_sums, measure, save_sums
from mira.pipeline.preflight import check_mask, check_teacher
from mira.pipeline.registry import EXTRAS, STAGES, needed_stages
from mira.pipeline.stage_counts import awaits_replies, check_budget, journal_state
from mira.pipeline.workers_notes import forget_notes
from mira.progress import Log, Quiet
from mira.run_folder.files import check_writable, hash_file, hash_json, write_json
from mira.run_folder.lock import LockHeld, lock_file, unlock_file
from mira.run_folder.paths import RunFolder
from mira.run_folder.probe import check_reachable
from mira.run_folder.working_copy import refresh
from mira.sharing.lease import check_leases
from mira.stage import Stage

__all__ = ["StageState", "check_edited", "refresh_report", "run_extra", "run_stages", "stage_states", "unwritable"]

Result = TypeVar("Result")

INDEX, REPORT = "index", "report"


@dataclass(frozen=True, slots=True)
class StageState:
    """Whether a stage is up to date, and if not, why.

    Attributes:
        stage: The stage.
        reasons: Empty when it is up to date; else what is new or changed, in words.
        record: What the manifest says of its last run, or None.
    """

    stage: Stage
    reasons: tuple[str, ...]
    record: dict[str, Any] | None


def run_stages(config: Config, names: Sequence[str] = (), log: Log | None = None, *, force: bool = False) -> list[str]:
    """Run stages in order, skipping what is up to date.

    Args:
        config: The settings.
        names: Stages to run; when empty, all that the configured selection needs. A stage that is named alone needs
            the output of the earlier ones.
        log: Where progress goes; nowhere by default.
        force: Run them even when they are up to date.

    Returns:
        Names of the stages that ran, in order; those that were up to date are left out.

    Raises:
        MiraError: A stage cannot run; what finished before it is kept.
    """
    log = log or Quiet()
    ran: list[str] = []
    run = RunFolder(config.run)
    refresh(run.path)
    check_reachable(run.path)
    known = [stage.name for stage in STAGES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"there is no stage '{unknown[0]}'", f"Stages are {', '.join(known)}.")
    wanted = set(names) or needed_stages(config)
    if wanted & {"discover", "label"}:
        check_teacher(config)
    check_mask(config.reliability, config.teacher, wanted)
    if "select" in wanted or (config.teacher.endpoint and wanted & {"discover", "label"}):
        check_provenance(config.corpus, config.select)
    with _locked(run, log), shared_spending(config.teacher):
        manifest = read_manifest(run)
        read = {stage.name: stage_settings(stage, config) for stage in STAGES}
        manifest["config"] = hash_json({name: settings for name, settings in read.items() if settings})
        if REPORT in wanted:  # it shows whatever there is, also of stages that are not run now
            refuse_changed((stage for stage in STAGES if stage.name not in wanted), run, manifest)
        for stage in STAGES:
            if stage.name in wanted:
                if _run_stage(stage, config, run, manifest, log, force=force):
                    ran.append(stage.name)
            elif _needed_by(stage.name, wanted, config):
                _check_earlier(stage, config, run, manifest, log, refuse=wanted != {REPORT})
    return ran


def run_extra(
    config: Config,
    function: Callable[[Config, RunFolder, Log], Result],
    log: Log,
    *,
    repairs: bool = False,
) -> Result:
    """Run what is not a stage (compare, evaluate, explain) over a finished run, alone in its folder.

    The report is written again if it shows what was made. `repairs`: the function replaces files, also damaged ones.

    Raises:
        RunError: There is no run, another process works in it, or a file of the run is damaged.
    """
    run = RunFolder(config.run)
    refresh(run.path)
    check_reachable(run.path)
    if not run.manifest.is_file():
        raise RunError(f"{run.path}: there is no run yet", "Run it first: mira run CONFIG")
    if run.groups.is_file() and _needed_by("group", {"select"}, config):
        _check_groups(config.sources, run)
    before = _extras(run)
    with _locked(run, log), shared_spending(config.teacher):
        if not repairs:
            refuse_changed((stage for stage in STAGES if stage.name != REPORT), run, read_manifest(run))
        result = function(config, run, log)
    if _extras(run) != before:
        refresh_report(config, log)
    return result


def refresh_report(config: Config, log: Log) -> None:
    """Write the report again after what it shows has changed; where that cannot be, say why."""
    try:
        run_stages(config, [REPORT], log)
    except RunError as error:
        log.note(f"the report is left as it is: {error}")


def stage_states(config: Config) -> list[StageState]:
    """Return for every stage whether it is up to date, as far as is known before the earlier stages run."""
    run = RunFolder(config.run)
    refresh(run.path)
    manifest = read_manifest(run)
    states: list[StageState] = []
    wanted = needed_stages(config)
    stale: set[str] = set()
    for stage in STAGES:
        if stage.name not in wanted:
            continue
        waiting = [n for n in stage.needs(config) if n in stale]
        reasons = tuple(f"waits for {n}" for n in waiting) or _reasons(
            stage, _inputs(stage, config, run, manifest), run, manifest
        )
        if reasons:
            stale.add(stage.name)
        states.append(StageState(stage, tuple(reasons), manifest["stages"].get(stage.name)))
    return states


def _check_earlier(
    stage: Stage, config: Config, run: RunFolder, manifest: dict[str, Any], log: Log, *, refuse: bool
) -> None:
    """Refuse a stage that never ran; of one that would run again, say that its output is taken as it is.

    Raises:
        RunError: The stage never ran, or (if `refuse`) it ran on records that have changed since, or its files did.
    """
    if not manifest["stages"].get(stage.name):
        raise RunError(
            f"stage '{stage.name}' has not run in {run.path}",
            f"Run it first: mira {stage.name} CONFIG, or mira run",
        )
    record = manifest["stages"][stage.name]
    inputs = _inputs(stage, config, run, manifest)
    reasons, output = _examine(stage, inputs, run, record)
    if not reasons:
        return
    if refuse and _of_other_records(stage, record["inputs"], inputs):
        raise RunError(
            f"stage '{stage.name}' was run on other records than the sources hold now ({'; '.join(reasons)})",
            "Run `mira run CONFIG`: it runs again only what depends on the records that changed.",
        )
    if refuse:
        refuse_damage(stage, run, (output or check_output(stage, run, record)).changed)
    log.note(f"{stage.name:<12} taken as it is, but not up to date ({'; '.join(reasons)}): see mira run")


def _of_other_records(stage: Stage, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether a stage's output is about records that have changed since: rows and ids may fit by chance."""
    if stage.name == INDEX:
        return bool(before["files"] != now["files"])
    return bool(before["stages"].get(INDEX) != now["stages"].get(INDEX))


def _needed_by(name: str, wanted: set[str], config: Config) -> bool:
    return any(name in stage.needs(config) for stage in STAGES if stage.name in wanted)


def _run_stage(
    stage: Stage, config: Config, run: RunFolder, manifest: dict[str, Any], log: Log, *, force: bool
) -> bool:
    """Run a stage; return whether it had to run."""
    if force:
        remove_all(stage.resumed(config, run))
    inputs = _inputs(stage, config, run, manifest)
    record = manifest["stages"].get(stage.name)
    reasons, output = ((), None) if force and record else _examine(stage, inputs, run, record)
    if not reasons and not force:
        if output is not None and output.sums != output.recorded:  # then the next check need not read the files
            save_sums(run, stage.name, output.sums)
        log.note(f"{stage.name:<12} up to date")
        check_budget(config, stage.name, record["summary"])
        return False
    if "group" in stage.needs(config):
        _check_groups(config.sources, run)
    check_edited(stage, config, run)
    why = "" if reasons == ("not run yet",) else f" ({'; '.join(reasons) or 'forced'})"
    log.note(f"{stage.name:<12} running{why}")
    if record is not None and not force:
        remove_damaged(stage, config, run, record)
    if manifest["stages"].pop(stage.name, None):
        write_json(run.manifest, manifest)  # an interrupted redo must not look finished
    save_sums(run, stage.name, None)
    save_sums(run, resumed_name(stage), None)
    for extra, maker in EXTRAS.items():
        if maker is stage and (run.path / extra).is_file():
            (run.path / extra).unlink()
            log.note(f"  removed {extra}: it was about the earlier {stage.name}")
    started = time.monotonic()
    try:
        summary = stage.run(config, run, log)
    except BaseException:
        if stage.edited is not None:  # else an edit of what it did write would not be seen
            save_sums(run, stage.name, measure(run, stage.outputs(run)))
        raise
    check_leases()
    seconds = time.monotonic() - started
    sums = measure(run, stage.outputs(run))
    save_sums(run, stage.name, sums)
    if resumed := stage.resumed(config, run):
        save_sums(run, resumed_name(stage), measure(run, resumed, sums))
    manifest["stages"][stage.name] = {
        "fingerprint": hash_json(inputs),
        "inputs": inputs,
        "digest": digest_of(sums),
        "files": len(sums),
        "bytes": sum(size for size, *_ in sums.values()),
        "seconds": round(seconds, 2),
        "summary": summary,
        **({"journal": journal_state(run)} if awaits_replies(summary) else {}),
    }
    write_json(run.manifest, manifest)
    forget_notes(run, stage)
    log.note(f"{stage.name:<12} done in {seconds:.1f} s")
    return True


def check_edited(stage: Stage, config: Config, run: RunFolder) -> None:
    """Check that a stage would not overwrite what somebody wrote by hand.

    Raises:
        RunError: It would; says how to keep the edit.
    """
    known = load_sums(run, stage.name) if stage.edited is not None else None
    if stage.edited is None or known is None:
        return
    found = measure(run, stage.outputs(run), known)
    there = [run.path / name for name in changed(known, found) if name in known and name in found and found[name][0]]
    if there:
        stage.edited(config, run, there)


def _check_groups(sources: Sequence[SourceSettings], run: RunFolder) -> None:
    """Check that the groups are of the configured sources: a stage that is run alone may find those of others."""
    differ = {s for group in load_groups(run) for s in group.sources} ^ {s.name for s in sources}
    if differ:
        raise RunError(
            f"{run.groups}: made of other sources than those of the settings; '{min(differ)}' is in one of the two",
            "Run the earlier stages again: mira run does.",
        )


def _extras(run: RunFolder) -> dict[str, str]:
    """Return name -> hash of what other verbs have made of the run: the report shows it."""
    return {name: hash_file(run.path / name) for name in EXTRAS if (run.path / name).is_file()}


def _read_stages(stage: Stage, config: Config, manifest: dict[str, Any]) -> Sequence[str]:
    """Return the stages whose output is read; the report shows whatever there is."""
    if stage.name != REPORT:
        return stage.needs(config)
    return [
        s.name for s in STAGES if s is not stage and (s.name in manifest["stages"] or s.name in stage.needs(config))
    ]


def _inputs(stage: Stage, config: Config, run: RunFolder, manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": stage.version,
        "settings": stage_settings(stage, config),
        "files": _extras(run) if stage.name == REPORT else stage_files(stage, config, run),
        "stages": {
            name: manifest["stages"].get(name, {}).get("digest") for name in _read_stages(stage, config, manifest)
        },
    }


def _reasons(stage: Stage, inputs: dict[str, Any], run: RunFolder, manifest: dict[str, Any]) -> tuple[str, ...]:
    return _examine(stage, inputs, run, manifest["stages"].get(stage.name))[0]


def _examine(
    stage: Stage, inputs: dict[str, Any], run: RunFolder, record: dict[str, Any] | None
) -> tuple[tuple[str, ...], Output | None]:
    """Return why a stage must run, if it must, and its output as far as that was looked at."""
    if record is None:
        return ("not run yet",), None
    if record["fingerprint"] != hash_json(inputs):
        return tuple(changes(record["inputs"], inputs)), None
    output = check_output(stage, run, record)
    if names := output.changed:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        return (f"its output was changed or removed: {names[0]}{more}",), output
    arrived = "journal" in record and record["journal"] != journal_state(run)
    return (("replies have arrived",) if arrived else ()), output


def unwritable(folder: Path, error: OSError) -> RunError:
    """Say why a run folder cannot be used."""
    if error.errno == errno.ENOLCK:
        return RunError(f"{folder}: cannot be locked", "Choose a run folder on a file system with locks.")
    hint = way_out(error, "Choose another run folder in 'run:'.")
    return RunError(f"{folder}: cannot be written: {error.strerror}", hint)


@contextmanager
def _locked(run: RunFolder, log: Log) -> Iterator[None]:
    try:
        check_writable(run.path)
        run.path.mkdir(parents=True, exist_ok=True)
        lock = lock_file(run.lock)
    except LockHeld as held:
        raise RunError(
            f"{run.path}: another mira ({held.holder}) is working in this run folder", "Wait for it, or stop it."
        ) from None
    except OSError as error:
        raise unwritable(run.path, error) from None
    try:
        with alone_at_url(run, log.note):
            yield
    finally:
        unlock_file(lock)
