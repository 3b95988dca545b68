"""`mira freeze`: the groups and rubrics of a run become settings, so that new sources leave them as they are."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mira.config.edit import with_settings
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError, InputError, RunError
from mira.grouping.groups import load_groups
from mira.pipeline.outputs import load_sums
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, write_bytes
from mira.run_folder.paths import RunFolder
from mira.urls import check_local

__all__ = ["Frozen", "freeze"]

FOLDER = "rubrics"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What `freeze` wrote.

    Attributes:
        groups: Group -> its sources.
        rubrics: Group -> its rubric file, relative to the settings.
        new: Sources that no group names: they join the nearest one.
        written: The files that were written, relative to the settings.
    """

    groups: dict[str, list[str]]
    rubrics: dict[str, str]
    new: tuple[str, ...]
    written: tuple[str, ...]


def freeze(path: Path, overrides: Sequence[str] = (), folder: str = FOLDER) -> Frozen:
    """Write the run's groups and rubrics into the settings; nothing is asked or computed.

    Rubrics are copied to a folder beside the settings, and `discover.rubrics`, `group.given` and `group.new_sources`
    name them. What the settings say already stays: a group that is given, a rubric file that is named. A rubric that
    was edited in the run folder replaces the one that mira wrote.

    Args:
        path: The settings file; comments and layout stay.
        overrides: As of `load_config`, e.g. another run folder. They are not written.
        folder: Where the rubrics go, relative to the settings.

    Raises:
        ConfigError: The settings cannot be changed safely; says what to add by hand.
        RunError: The run has no groups or rubrics yet, or a rubric would overwrite another one.
        InputError: An edited rubric is not a rubric.
    """
    check_local(folder, "--folder")
    config, run = load_config(path), RunFolder(load_config(path, overrides).run)
    groups = _groups(config, run)
    home = path.parent.absolute()
    if os.path.realpath(home / folder) == os.path.realpath(run.path / FOLDER):
        raise ConfigError(
            f"{home / folder}: this is the run folder's own folder of rubrics", "Choose another one: --folder NAME"
        )
    sums = load_sums(run, "discover") or {}
    copies: dict[Path, bytes] = {}
    rubrics = dict(_named(config, home))
    for group in groups:
        own, given = run.rubric(group), config.discover.rubrics.get(group)
        before = sums.get(own.relative_to(run.path).as_posix())
        edited = own.is_file() and before is not None and before[3] != hash_file(own)
        if given and not (edited and Rubric.load(own, group).hash != Rubric.load(Path(given), group).hash):
            continue
        target = home / folder / own.name
        copies[target] = _checked(own, target, group, before[3] if edited and before else "")
        rubrics[group] = f"{folder}/{own.name}"
    text = path.read_bytes().decode()
    new = tuple(s.name for s in config.sources if not any(s.name in members for members in groups.values()))
    changes: dict[str, dict[str, Any]] = {"group": {"new_sources": "nearest", "given": groups}}
    if copies:
        changes["discover"] = {"rubrics": rubrics}
    changed = with_settings(text, changes, str(path))
    for target, data in copies.items():
        write_bytes(target, data)
    if changed != text:
        write_bytes(path, changed.encode())
    written = [f"{folder}/{target.name}" for target in copies] + [path.name] * (changed != text)
    return Frozen(groups, rubrics, new, tuple(written))


def _groups(config: Config, run: RunFolder) -> dict[str, list[str]]:
    """Return group -> sources: as the settings say, and as the run has it for sources that they do not name."""
    try:
        found = load_groups(run)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{run.groups}: not the groups of a run: {error}", "Correct it; or remove it, and run: mira group CONFIG"
        ) from None
    groups = {name: list(members) for name, members in config.group.given.items()}
    named = {source for members in groups.values() for source in members}
    there = {source.name for source in config.sources}
    for group in found:
        if members := [s for s in group.sources if s in there - named]:
            groups[group.name] = [*groups.get(group.name, []), *members]
    return groups


def _named(config: Config, home: Path) -> Mapping[str, str]:
    """Return the rubrics that the settings name, relative to their folder where they lie below it."""
    paths = {group: Path(file) for group, file in config.discover.rubrics.items()}
    return {g: str(p.relative_to(home)) if p.is_relative_to(home) else str(p) for g, p in paths.items()}


def _checked(own: Path, target: Path, group: str, before: str) -> bytes:
    """Return a rubric of the run, after checking that it is one and that its copy overwrites nothing.

    Args:
        own: The rubric in the run folder.
        target: Where it is copied to.
        group: Its group.
        before: Hash of the rubric that was edited; "" where it is as mira wrote it.
    """
    if not own.is_file():
        raise RunError(f"{own}: {group} has no rubric yet", "Run: mira discover CONFIG")
    Rubric.load(own, group)
    data = own.read_bytes()
    if target.is_file() and target.read_bytes() != data and hash_file(target) != before:
        raise RunError(
            f"{target}: is there already, and holds another rubric than {own}",
            f"Name the one to use in the settings (discover: {{rubrics: {{{group}: FILE}}}}), or move {target} away.",
        )
    return data
