"""Whether a worker may begin: what its stage needs is there, and was made with these settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from mira.config.settings import Config
from mira.errors import ConfigError, RunError
from mira.pipeline.fingerprints import changes, stage_settings
from mira.pipeline.manifest import read_manifest
from mira.pipeline.registry import STAGES
from mira.pipeline.runner import INDEX
from mira.run_folder.paths import RunFolder
from mira.stage import ShardStep, Stage

__all__ = ["STEPS", "check_ready", "find_step", "stages_before"]

STEPS: Mapping[str, tuple[Stage, ShardStep]] = {step.name: (stage, step) for stage in STAGES for step in stage.steps}
"""Name of a step, as `mira work --stage` takes it -> its stage, and the step."""


def find_step(name: str) -> tuple[Stage, ShardStep]:
    """Return a step by its name, with its stage.

    Raises:
        ConfigError: Workers do no such step.
    """
    if name not in STEPS:
        raise ConfigError(f"workers do no stage '{name}'", f"They do {', '.join(STEPS)}.")
    return STEPS[name]


def stages_before(stage: Stage, config: Config) -> list[Stage]:
    """Return the stages that a stage builds on, and what those build on, in order."""
    wanted = set(stage.needs(config))
    for one in reversed(STAGES):
        if one.name in wanted:
            wanted.update(one.needs(config))
    return [one for one in STAGES if one.name in wanted]


def check_ready(stage: Stage, config: Config, run: RunFolder) -> None:
    """Check that the earlier stages have run, with these settings.

    The files that they were made from are not looked at: reading all sources would take every worker longer than its
    work. A shard whose file has changed since it was indexed is refused when its turn comes.

    Raises:
        RunError: One has not, or would run again. Says which command to type.
    """
    manifest = read_manifest(run)
    for earlier in stages_before(stage, config):
        record = manifest["stages"].get(earlier.name)
        command = f"mira {earlier.name} {config.arguments}"
        if record is None:
            raise RunError(f"stage '{earlier.name}' has not run in {run.path}", f"Run it first: {command}")
        if reasons := _changed(earlier, config, manifest["stages"], record):
            raise RunError(
                f"stage '{earlier.name}' is not up to date in {run.path} ({'; '.join(reasons)})",
                f"Run it again first: {command}",
            )
        if earlier.name == INDEX and _indexed(config, run) != record["summary"]["shards"]:
            raise RunError(f"{run.path}: shards were indexed after the index was gathered", f"Gather it: {command}")


def _indexed(config: Config, run: RunFolder) -> int:
    """Return how many shards have an index file."""
    files = (path for source in config.sources for path in run.index(source.name).glob("*.parquet"))
    return sum(path.name != "duplicates.parquet" for path in files)


def _changed(stage: Stage, config: Config, recorded: Mapping[str, Any], record: Mapping[str, Any]) -> Sequence[str]:
    """Return in words what is different since a stage ran, but for files."""
    before = record["inputs"]
    now = {
        "version": stage.version,
        "settings": stage_settings(stage, config),
        "files": before["files"],
        "stages": {name: recorded.get(name, {}).get("digest") for name in stage.needs(config)},
    }
    return list(changes(before, now))
