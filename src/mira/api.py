"""The Python API: every verb under its name, on the safe road (lock, fingerprints, manifest, limits)."""

from collections.abc import Sequence
from pathlib import Path

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.pipeline.plan import PlannedStage
from mira.pipeline.plan import plan as make_plan
from mira.pipeline.runner import run_stages
from mira.pipeline.validate import validate as check
from mira.progress import Log, Quiet
from mira.run_folder.paths import RunFolder
from mira.run_view import Run

__all__ = ["plan", "run", "validate"]

Settings = Config | Path | str


def run(config: Settings, *stages: str, force: bool = False, log: Log | None = None) -> Run:
    """Run stages, as `mira run` does; what is up to date is skipped.

    Args:
        config: The settings, or the path of their file.
        *stages: Stages to run, e.g. "select"; all that the configured selection needs when none is named.
        force: Run them even when they are up to date.
        log: Where progress goes; nowhere by default. `mira.Terminal()` shows it.

    Returns:
        The run, to look at.

    Raises:
        MiraError: A stage cannot run; what finished before it is kept.
    """
    settings = _settings(config)
    run_stages(settings, stages, log, force=force)
    return Run(RunFolder(settings.run), settings)


def validate(config: Settings) -> list[str]:
    """Check settings, files, fields, bundles and endpoints; nothing is spent.

    Returns:
        One line for each thing that is in order, warnings among them.

    Raises:
        MiraError: Something is wrong.
    """
    return list(check(_settings(config)))


def plan(config: Settings, log: Log | None = None) -> Sequence[PlannedStage]:
    """Return what a run would do: records, LLM calls, tokens and cost of each stage. The sources are indexed.

    Raises:
        MiraError: A source cannot be read, or a scorer bundle is not in order.
    """
    return make_plan(_settings(config), log or Quiet())


def _settings(config: Settings) -> Config:
    return config if isinstance(config, Config) else load_config(config)
