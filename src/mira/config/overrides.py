"""Overrides: `--set select.budget=25%`, put on top of settings.

The dots of a key lead into sections. Where a section is a list of entries with names, such as `sources`, the next part
is such a name, or a number counted from 0. Names of sources and keys of mappings may contain dots themselves.
"""

import difflib
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from mira.config.aliases import check_aliases
from mira.errors import ConfigError

__all__ = ["Override", "apply_override"]


class Override(NamedTuple):
    """An override that was applied.

    Attributes:
        text: As it was given.
        place: Where its value is: names of sections, and positions in lists.
    """

    text: str
    place: tuple[str | int, ...]


def apply_override(value: dict[str, Any], text: str, model: type[BaseModel]) -> Override:
    """Put an override into settings.

    Args:
        value: The settings, which are changed.
        text: "select.budget=25%" and the like; what follows the sign is YAML.
        model: What the settings are read as.

    Raises:
        ConfigError: It is not of this form, leads nowhere, or names an entry that does not exist.
    """
    key, equals, given = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: expected KEY=VALUE", "For example: --set select.budget=25%")
    place: list[str | int] = []
    current: Any = value
    kind: Any = model
    rest = key
    while True:
        step, rest = _step(current, kind, rest, text, ".".join(map(str, place)))
        place.append(step)
        kind = _inner(kind, step)
        if not rest:
            current[step] = _parsed(given, text)
            return Override(text, tuple(place))
        if isinstance(current, dict) and current.get(step) is None:
            current[step] = [] if any(get_origin(k) is list for k in _members(kind)) else {}
        current = current[step]
        if not isinstance(current, dict | list):
            raise ConfigError(f"--set {text[:100]}: '{step}' holds no fields")


def _step(current: dict[str, Any] | list[Any], kind: Any, rest: str, text: str, at: str) -> tuple[str | int, str]:
    """Return the first step of a key, and what is left of the key."""
    first, _, more = rest.partition(".")
    if isinstance(current, list):
        names = {str(item["name"]): i for i, item in enumerate(current) if isinstance(item, dict) and "name" in item}
        name = _longest(names, rest)
        if name is not None:
            return names[name], rest[len(name) + 1 :]
        if first.isdecimal() and int(first) < len(current):
            return int(first), more
        close = difflib.get_close_matches(first, names, n=1)
        advice = f"Did you mean '{close[0]}'? " if close else ""
        known = f"Known: {', '.join(names)}." if names else "The settings name no entry yet."
        raise ConfigError(f"--set {text[:100]}: {at} has no entry '{first}'", advice + known)
    free = [get_args(k)[1] for k in _members(kind) if get_origin(k) is dict]
    if free and not any(_has_fields(k) for k in _members(free[0])):
        return rest, ""  # the key of a mapping of plain values may contain dots
    name = _longest(current, rest) if free else None
    return (first, more) if name is None else (name, rest[len(name) + 1 :])


def _longest(names: Iterable[str], rest: str) -> str | None:
    """Return the longest name that a key begins with; the whole key only if no shorter name fits."""
    inside = [name for name in map(str, names) if rest.startswith(f"{name}.")]
    return max(inside, key=len, default=next((name for name in map(str, names) if name == rest), None))


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union."""
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    else:
        yield annotation


def _has_fields(kind: Any) -> bool:
    return kind is object or get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _inner(annotation: Any, step: str | int) -> Any:
    """Return the type of what a step leads to."""
    for kind in _members(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel) and step in kind.model_fields:
            return kind.model_fields[str(step)].annotation
        if get_origin(kind) in (list, dict):
            return get_args(kind)[-1]
    return object


def _parsed(given: str, text: str) -> Any:
    try:
        check_aliases(yaml.compose(given, Loader=yaml.SafeLoader), f"--set {text[:100]}")
        return yaml.safe_load(given)
    except RecursionError:
        raise ConfigError(f"--set {text[:100]}: nested too deeply") from None
    except (yaml.YAMLError, ValueError):
        return given
