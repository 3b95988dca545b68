"""Reading mira.yaml: errors with file and line, "did you mean", overrides, relative paths, the commented template."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mira.config.files import construct, find_node, read_nodes
from mira.config.overrides import Override, apply_override
from mira.config.paths import PathKind, path_settings, resolve_paths
from mira.config.settings import Config, EmbeddingSettings, SourceSettings
from mira.errors import ConfigError
from mira.run_folder.working_copy import given_as
from mira.urls import check_folder, check_place, masked, problem_of_url

__all__ = ["config_from", "load_config"]

Location = tuple[str | int, ...]
_LONGEST_NAME = 100  # letters of a source's name


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read and check a mira.yaml.

    Args:
        path: The file. Relative paths in it, and in files that it includes, are relative to the folder of the file
            that holds them.
        overrides: "select.budget=25%", "sources.docs.path=x.jsonl" and the like, applied on top of the file; values
            are YAML.

    Returns:
        The settings, with absolute local paths.

    Raises:
        ConfigError: The file is missing, is not YAML, or a field is unknown or has a wrong value; every problem is
            listed with its line.
    """
    path = Path(path)
    root = read_nodes(path)
    return _build(construct(root), overrides, path, root)


def config_from(value: dict[str, Any], overrides: Sequence[str] = (), name: str = "settings") -> Config:
    """Return settings that come from elsewhere than a file, such as the command line; checked as a file's are.

    Args:
        value: The settings as nested dictionaries. Relative paths are relative to the current folder.
        overrides: As in `load_config`.
        name: What messages call the settings.

    Raises:
        ConfigError: As `load_config`.
    """
    return _build(value, overrides, Path(name), None)


def _build(value: dict[str, Any], overrides: Sequence[str], path: Path, root: yaml.Node | None) -> Config:
    if "include" in value or any(override.startswith("include=") for override in overrides):
        raise ConfigError("include: only a settings file can include another", "Write it into the file.")
    origin = _Origin(path, root, tuple(apply_override(value, override, Config) for override in overrides))
    try:
        config = Config.model_validate(resolve_paths(Config, {"run": "run"} | value, origin.folder))
    except ValidationError as error:
        lines = dict.fromkeys(_explain(error, value, origin))
        of_command = all(_COMMAND_LINE in line for line in lines)
        hint = "Correct the command line." if of_command else "Correct the lines above."
        raise ConfigError("\n".join(lines), hint) from None
    _check(config, origin)
    if root is not None:
        config.given_by(path.name, overrides)
    return config


_COMMAND_LINE = " (from the command line)"


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where settings come from: a file, and what the command line put on top of it."""

    path: Path
    root: yaml.Node | None
    overrides: tuple[Override, ...]

    def where(self, location: Location) -> str:
        """Return what to blame for the value at a place: the override that gave it, or the file and its line."""
        if override := self._override(location):
            return masked(override) + _COMMAND_LINE
        mark = find_node(self.root, location)[1]
        return f"{mark.name}:{mark.line + 1}" if mark else str(self.path)

    def folder(self, location: Location) -> Path:
        """Return the folder that a relative path at a place is relative to: that of the file which gives it."""
        node = None if self._override(location) else find_node(self.root, location)[0]
        return (Path(node.start_mark.name) if node else self.path).parent.absolute()

    def _override(self, location: Location) -> str:
        """Return the override that gave the value at a place, or ""."""
        for text, place in reversed(self.overrides):
            n = len(place)
            if location[:n] == place or (
                location and place[: len(location)] == location and not self._in_file(location)
            ):
                return text
        return ""

    def missing(self, location: Location) -> str:
        """Return what to blame for a field that is not there: what gave the fields beside it."""
        return self.where(location[:-1])

    def setting(self, name: str) -> str:
        """Return how to begin a message about a setting, by its dotted name."""
        location = tuple(name.split("."))
        if override := self._override(location):
            return masked(override) + _COMMAND_LINE
        node = find_node(self.root, location)[0]
        return f"{node.start_mark.name if node else self.path}: {name}"

    def _in_file(self, location: Location) -> bool:
        return find_node(self.root, location)[0] is not None


def _explain(error: ValidationError, value: dict[str, Any], origin: _Origin) -> Iterator[str]:
    for location, problems in _by_place(error, value).items():
        name = ".".join(map(str, location))
        problem = problems[0]
        if problem["type"] == "extra_forbidden":
            yield f"{origin.where(location)}: unknown field '{name}'; {_known(location)}"
        elif problem["type"] == "missing":
            yield f"{origin.missing(location)}: field '{name}' is missing"
        else:
            where = origin.where(location)
            if not where.endswith(_COMMAND_LINE) or not where.startswith(f"{name}="):
                where = f"{where}: {name}"
            yield f"{where}: {_expected(location, problems)}"


def _by_place(error: ValidationError, value: dict[str, Any]) -> dict[Location, list[Any]]:
    """Return the problems of each place; what the members of a union say is about one place."""
    found: dict[Location, list[Any]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        place = _place(problem, value)
        found.setdefault(place, []).append(problem)
    inner = {place[:n] for place in found for n in range(len(place))}
    # Where a member of a union says what is wrong inside it, the other members have nothing to add.
    return {place: problems for place, problems in found.items() if place not in inner}


def _place(problem: Any, value: Any) -> Location:
    """Return where in the settings a problem is: pydantic puts names of unions' members and of checks in between."""
    place: list[str | int] = []
    for part in problem["loc"]:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            place.append(part)
            value = value[part]
    if problem["type"] == "missing":
        place.append(problem["loc"][-1])
    return tuple(place)


def _known(location: Location) -> str:
    known = _fields_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if not close and str(location[-1]).lower().endswith("key"):
        close = [k for k in known if k == "api_key_env"]
    advice = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(sorted(known))}"
    return advice + (" Keys come from the environment, never from this file." if close == ["api_key_env"] else "")


def _expected(location: Location, problems: Sequence[Any]) -> str:
    return " or ".join(dict.fromkeys(_said(location, problem) for problem in problems))


def _said(location: Location, problem: Any) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return "letters, digits and . _ + - only, starting with a letter or a digit"
    if problem["type"] in ("model_type", "model_attributes_type"):
        known = _fields_at(location)
        needed = [n for n in known if n in ("name", "path", "base_url", "model")] or known[:1]
        return f"expected fields, such as {{{', '.join(f'{n}: ...' for n in needed)}}}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def _fields_at(location: Location) -> list[str]:
    """Return the field names of the settings model that `location` leads to."""
    model: Any = Config
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = _model_in(field.annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, dict, Union, UnionType, Annotated):
        found = (_model_in(a) for a in get_args(annotation) if a is not NoneType)
        return next((m for m in found if m is not None), None)
    return None


def _check(config: Config, origin: _Origin) -> None:
    check_place(given_as(config.run), origin.setting("run"))
    for setting in path_settings(config):
        if setting.kind is PathKind.BUNDLE:
            check_folder(setting.path, origin.setting(setting.name))
    names = [s.name for s in config.sources]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ConfigError(f"{origin.path}: source '{doubled[0]}' is given twice", "Give each source a name of its own.")
    for settings in config.sources:
        _check_source(settings, origin)
    for name, number in _whole_numbers(config.model_dump()):
        if not -(2**63) <= number < 2**63:
            raise ConfigError(f"{origin.setting(name)}: {number} is too large", "Write a number below 2^63.")
    mentions = [("group.given", s) for sources in config.group.given.values() for s in sources]
    mentions += [("select.source_min", s) for s in config.select.source_min]
    mentions += [("select.source_max", s) for s in config.select.source_max]
    mentions += [(f"scores.{name}.sources", s) for name, score in config.scores.items() for s in score.sources]
    for field, source in mentions:
        if source not in names:
            close = difflib.get_close_matches(source, names, n=1)
            gone = f"If it is gone, take it out here, too. Sources are: {', '.join(names)}"
            advice = f"Did you mean '{close[0]}'?" if close else gone
            raise ConfigError(f"{origin.setting(field)}: there is no source '{source}'", advice)
    _check_scores(config, origin)
    methods = (config.select.dataman.endpoint, config.select.ppl.endpoint)
    endpoints = (config.teacher.endpoint, config.distill.endpoint, *config.distill.endpoints.values(), *methods)
    urls = [url for e in endpoints if e for url in ([e.base_url] if isinstance(e.base_url, str) else e.base_url)]
    for name, url in [*(("base_url", url) for url in urls), *_embedding_url(config.embedding)]:
        if wrong := problem_of_url(url):
            raise ConfigError(f"{origin.path}: {name}: {wrong[0]}", wrong[1])
    if config.distill.student == "endpoint" and not (config.distill.endpoint or config.distill.endpoints):
        problem = "distill.student is 'endpoint', but distill.endpoint is missing"
        raise ConfigError(f"{origin.path}: {problem}", "Add base_url and model.")
    if config.distill.student == "bundle" and not config.distill.bundles:
        problem = "distill.student is 'bundle', but distill.bundles is missing"
        raise ConfigError(f"{origin.path}: {problem}", "Name a folder a group: bundles: {text_group_A: FOLDER}.")


def _check_scores(config: Config, origin: _Origin) -> None:
    names = list(config.scores)
    lowered = [name.lower() for name in names]
    for name in names:
        if lowered.count(name.lower()) > 1:
            raise ConfigError(f"{origin.setting(f'scores.{name}')}: differs from another only in case", "Rename it.")
    wanted, field = config.select.column.score, "select.column.score"
    known = f"`scores` has {', '.join(names)}." if names else "Describe the score in `scores` first."
    if config.select.method == "column" and not wanted:
        raise ConfigError(f"{origin.setting('select.method')}: column needs {field}, the name of a score", known)
    mentions = [(field, wanted)] if wanted else []
    gates = enumerate(config.select.gates)
    mentions += [(f"select.gates.{n}.value", g.value[7:]) for n, g in gates if g.value.startswith("column.")]
    for field, wanted in mentions:
        if wanted not in names:
            close = difflib.get_close_matches(wanted, names, n=1)
            advice = f"Did you mean '{close[0]}'?" if close else known
            raise ConfigError(f"{origin.setting(field)}: there is no score '{wanted}'", advice)


def _check_source(source: SourceSettings, origin: _Origin) -> None:
    paths = [source.path] if isinstance(source.path, str) else source.path
    if not paths or not all(path.strip() for path in paths):
        raise ConfigError(f"{origin.path}: source '{source.name}': path is empty", "Name a file, a folder or a glob.")
    if len(source.name) > _LONGEST_NAME:
        raise ConfigError(
            f"{origin.path}: source '{source.name[:20]}...': the name has {len(source.name)} letters",
            f"Choose one of {_LONGEST_NAME} letters at most: folders are named after it.",
        )


def _whole_numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield the whole numbers in settings with their dotted names."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _whole_numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int):
        yield name, value


def _embedding_url(embedding: EmbeddingSettings) -> list[tuple[str, str]]:
    model = embedding.model
    return [("embedding.model", model)] if model.startswith(("http://", "https://")) else []
