"""Fingerprints: what a stage's output depends on, and how a change of it is put in words.

A stage's fingerprint is the hash of its code version, the settings that it reads, the content of the files that these
settings name, and the digests of the stages that it builds on.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mira.config.paths import PathKind, PathSetting, path_settings
from mira.config.settings import Config
from mira.distillation.bundle import SUMS
from mira.errors import ConfigError, way_out
from mira.run_folder.files import hash_file, hash_json, hash_path
from mira.run_folder.paths import RunFolder
from mira.stage import Stage
from mira.tokens import tokenizer

__all__ = ["changes", "stage_files", "stage_settings"]

LARGE_WEIGHTS = 2**30
"""Bytes from which a file of weights is known by its size: reading 70 GB at every start would take minutes."""


def stage_settings(stage: Stage, config: Config) -> dict[str, Any]:
    """Return the settings that a stage's output depends on, by dotted name.

    Defaults are left out, so that a setting which a newer mira adds does not make old runs stale. So are paths: what
    counts is the content of what they name, so that a project can be moved.
    """
    if stage.settings is not None:
        return stage.settings(config)
    dumped = config.model_dump(mode="json", exclude_defaults=True)
    found: dict[str, Any] = {"seed": config.seed}
    for name in stage.reads(config):
        section, _, field = name.partition(".")
        given = dumped.get(section, {})
        found |= {f"{section}.{key}": value for key, value in given.items() if field in ("", key)}
    unread = stage.unread(config)
    found = {name: value for name, value in found.items() if not _within(name, unread)}
    for setting in path_settings(config):
        if _is_path(setting):
            _drop(found, setting.name)
    return found


def stage_files(stage: Stage, config: Config, run: RunFolder) -> dict[str, str]:
    """Return name -> hash of the files outside the run folder that a stage reads.

    Raises:
        ConfigError: A setting names a file that cannot be read.
    """
    wanted, unread = stage.reads(config), stage.unread(config)
    found = {
        setting.name: _hash(setting)
        for setting in path_settings(config)
        if _within(setting.name, wanted) and not _within(setting.name, unread) and _is_path(setting)
        if setting.kind is not PathKind.SOURCE  # the stage knows which records are read
    }
    return found | dict(stage.files(config, run))


def _within(name: str, sections: Sequence[str]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def _is_path(setting: PathSetting) -> bool:
    """Return whether a setting holds a path: a model or a tokenizer may have a name instead."""
    may_be_name = setting.kind in (PathKind.MODEL, PathKind.TOKENIZER)
    return bool(setting.path) and (not may_be_name or Path(setting.path).is_absolute())


def _drop(found: dict[str, Any], name: str) -> None:
    """Remove the setting `name`, which may lie inside a field, and what holds nothing without it."""
    field = next((key for key in found if name == key or name.startswith(f"{key}.")), None)
    if field is None:
        return
    inner = name.removeprefix(field).removeprefix(".")
    if not inner or not (rest := _without(found[field], inner.split("."))):
        del found[field]
    else:
        found[field] = rest


def _without(value: Any, path: Sequence[str]) -> Any:
    first, *rest = path
    if isinstance(value, list):
        at = int(first)
        if at >= len(value):
            return value
        inner = _without(value[at], rest) if rest else ""
        return [*value[:at], inner, *value[at + 1 :]]  # places stay: later names count on them
    if not isinstance(value, dict) or first not in value:
        return value
    kept = {key: inner for key, inner in value.items() if key != first}
    if rest and (inner := _without(value[first], rest)):
        kept[first] = inner
    return kept


def _hash(setting: PathSetting) -> str:
    path = Path(setting.path)
    try:
        if setting.kind is PathKind.BUNDLE:
            return hash_path(path / SUMS)
        if setting.kind is PathKind.TOKENIZER:
            return tokenizer(setting.path).identity
        return _hash_model(path) if setting.kind is PathKind.MODEL else hash_path(path)
    except OSError as error:
        raise ConfigError(
            f"{setting.name}: {path}: {error.strerror}", way_out(error, "Correct the path in the settings.")
        ) from None


def _hash_model(path: Path) -> str:
    if not path.is_dir():
        return hash_path(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return hash_json([[file.relative_to(path).as_posix(), _hash_weights(file)] for file in files])


def _hash_weights(file: Path) -> str | int:
    size = file.stat().st_size
    return size if size >= LARGE_WEIGHTS else hash_file(file)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what differs between the inputs of a stage's last run and those of now."""
    if before["version"] != after["version"]:
        yield "its code changed"
    for kind in ("settings", "files"):
        yield from (f"{name} changed" for name in _differing(before[kind], after[kind]))
    old, new = before["stages"], after["stages"]
    differing = _differing(old, new)
    yield from (f"{name} gave another output" for name in differing if name in old and name in new)
    # The stages that are read follow from the settings, which say it better where they changed.
    if before["version"] == after["version"] and before["settings"] == after["settings"]:
        yield from (
            f"{name} is {'new' if name in new else 'not read any more'}"
            for name in differing
            if name not in old or name not in new
        )


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
