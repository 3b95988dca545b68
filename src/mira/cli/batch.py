"""`--export` and `--import`: batch files instead of live requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mira.cli.program import say
from mira.errors import ConfigError
from mira.progress import Terminal
from mira.run_folder.probe import probe

if TYPE_CHECKING:
    from mira.config.settings import Config

__all__ = ["batch", "run_batch", "wants_batch"]


def batch(
    path: Path,
    overrides: list[str],
    stage: str,
    export: Path | None,
    results: list[Path] | None,
    *,
    force: bool,
    limits: Sequence[str],
) -> bool:
    """Write or read the batch files of a stage; return whether that was all that was asked for.

    Raises:
        MiraError: The options contradict each other, or the files cannot be written or read.
    """
    if not wants_batch(export, results, force=force, limits=limits):
        return False
    from mira.config.loading import load_config  # noqa: PLC0415

    run_batch(stage, export, results, f"mira {stage} {path}", load_config(path, overrides))
    return True


def wants_batch(export: Path | None, results: list[Path] | None, *, force: bool, limits: Sequence[str]) -> bool:
    """Return whether batch files are asked for.

    Args:
        export: Value of --export.
        results: Values of --import.
        force: Whether --force is given.
        limits: Limits that are given, as overrides; nothing is spent on batch files, so they would have no effect.

    Raises:
        ConfigError: An option would have no effect, or nothing can be written to the export.
    """
    if export is None and not results:
        return False
    if export is not None and results:
        raise ConfigError(
            "--export and --import cannot be combined", "Export, run the requests, then import the results."
        )
    without_effect = ["--force"] if force else []
    without_effect += [f"--{limit.removeprefix('teacher.').partition('=')[0].replace('_', '-')}" for limit in limits]
    if without_effect:
        raise ConfigError(f"{without_effect[0]} has no effect with --export or --import", "Leave it out.")
    if export is not None:
        probe(export, "--export")
    return True


def run_batch(stage: str, export: Path | None, results: list[Path] | None, command: str, config: "Config") -> None:
    """Write or read batch files, and say how many requests are still without a reply."""
    from mira.pipeline.batch import export_requests, import_results, still_out  # noqa: PLC0415
    from mira.run_folder.paths import RunFolder  # noqa: PLC0415

    if results:
        run = RunFolder(config.run)
        done = import_results(run, results)
        say(
            f"{done.replies:,} new replies, {done.known:,} known already, {done.failures:,} failed requests, "
            f"{done.unreadable:,} lines without a result. {_left(still_out(run, stage))}Now: {command}"
        )
        return
    assert export is not None
    written = export_requests(config, stage, export, Terminal())
    files = ", ".join(f"{p}" for p in written.paths)
    if written.removed:
        say(f"Removed {', '.join(f'{p}' for p in written.removed)}: parts of a longer export before this one.")
    say(
        f"{written.requests:,} requests in {files}; {written.answered:,} are answered already, "
        f"{written.unsendable:,} do not fit. Run them, then: {command} --import RESULTS"
    )


def _left(still: tuple[int, int] | None) -> str:
    if still is None or not still[0]:
        return ""
    return f"{still[0]:,} of the {still[1]:,} requests last exported are still without a reply. "
