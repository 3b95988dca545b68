"""Proposes a field mapping where a source's own is missing or wrong: by names, types and lengths, nested fields too.

A proposal is tried on the records before it is made: what it maps is what the family reads.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from mira.config.settings import SourceSettings
from mira.corpus.families import FieldProblem, find_family, look_up, render
from mira.family import FamilyName

__all__ = ["propose"]

_USUAL = {
    "text": ("content", "body", "document", "raw_content", "markdown"),
    "question": ("prompt", "query", "instruction", "problem", "input", "title"),
    "answer": ("response", "completion", "output", "solution", "body"),
    "think": ("thinking", "reasoning", "reasoning_content", "cot", "thought"),
    "messages": ("conversation", "conversations", "trajectory", "turns", "history"),
}
_BY_LENGTH = ("question", "answer", "think", "text")
"""Fields from the one that is usually shortest."""

_DEEPEST = 4  # levels of nested objects
_MOST_FIELDS = 200  # of a record
_PROSE = 24  # characters of a text without a space that may still be prose
_DISTINCT = 0.5  # share of distinct values below which a field is a category


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A field that holds text in some records: its path, typical characters, and whether it reads like prose."""

    path: str
    length: float
    prose: bool


def propose(source: SourceSettings, values: Sequence[Mapping[str, Any]]) -> str:
    """Return how to map a source's fields, as the begin of a sentence; "" if nothing fits.

    Args:
        source: The source, with the mapping that does not fit.
        values: Some of its records, whole.
    """
    leaves = _leaves(values)
    own = _mapping(source.family, source.fields, values, leaves)
    if own and _fits(source.family, {**source.fields, **own}, values):
        return f"Map it with fields: {_as_yaml(own)}" + _lengths(own, leaves)
    for family in FamilyName:
        if family != source.family:
            other = _mapping(family, {}, values, leaves, by_name=True)
            if other is not None and _fits(family, other, values):
                fields = f" and fields: {_as_yaml(other)}" if other else ""
                return f"The records look like family {family}: set family: {family}{fields}" + _lengths(other, leaves)
    return f"Map it with fields: {_as_yaml(own)}" + _lengths(own, leaves) if own else ""


def _fits(family: str, fields: Mapping[str, str], values: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether most records are valid under a mapping."""
    return 2 * sum(_is_valid(family, fields, value) for value in values) > len(values)


def _is_valid(family: str, fields: Mapping[str, str], value: Mapping[str, Any]) -> bool:
    try:
        render(family, value, fields)
    except FieldProblem:
        return False
    return True


def _mapping(
    family: str,
    given: Mapping[str, str],
    values: Sequence[Mapping[str, Any]],
    leaves: Sequence[_Leaf],
    *,
    by_name: bool = False,
) -> dict[str, str] | None:
    """Return a field for each required field that the given mapping does not find; None if one is not found."""
    if family == FamilyName.AGENT:
        return _messages(given, values)
    wanted = [name for name in find_family(family).required if not _is_text(given.get(name, name), leaves)]
    taken = {given.get(name, name) for name in find_family(family).required if name not in wanted}
    found: dict[str, str] = {}
    for name in wanted:
        free = [leaf.path for leaf in leaves if leaf.path not in taken]
        if path := _by_name(name, given.get(name, name), free):
            found[name] = path
            taken.add(path)
    rest = [name for name in _BY_LENGTH if name in wanted and name not in found]
    prose = sorted((leaf for leaf in leaves if leaf.prose and leaf.path not in taken), key=lambda leaf: -leaf.length)
    without = found if by_name else found | _by_length([name for name in rest if name != "think"], prose)
    if "think" in rest and _fits(family, {**given, **without}, values):
        wanted.remove("think")  # it is in the answer
        found = without
    elif not by_name:
        found |= _by_length(rest, prose)
    found = {name: found[name] for name in find_family(family).required if name in found}
    return found if by_name is False or len(found) == len(wanted) else None


def _by_length(names: Sequence[str], longest_first: Sequence[_Leaf]) -> dict[str, str]:
    """Give the longest texts to fields, the shortest of them to the field that is usually shortest."""
    chosen = reversed(longest_first[: len(names)])
    return {name: leaf.path for name, leaf in zip(reversed(names), reversed(list(chosen)), strict=False)}


def _messages(given: Mapping[str, str], values: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    paths = dict.fromkeys(path for value in values for path, found in _walk(value) if isinstance(found, list | str))
    hints = [p for p in paths if p.rpartition(".")[2] in ("messages", *_USUAL["messages"])]
    for path in (*hints, *paths):
        if _fits(FamilyName.AGENT, {**given, "messages": path}, values):
            return {} if path == "messages" else {"messages": path}
    return None


def _is_text(path: str, leaves: Iterable[_Leaf]) -> bool:
    return any(leaf.path == path for leaf in leaves)


def _by_name(name: str, given: str, paths: Sequence[str]) -> str:
    """Return the path whose last part is the field's name, a name that it usually has, or a similar one."""
    last = {path: path.rpartition(".")[2].lower() for path in paths}
    for wanted in (name, *_USUAL.get(name, ())):
        if exact := [path for path in paths if last[path] == wanted]:
            return min(exact, key=lambda path: path.count("."))
    near = difflib.get_close_matches(given, paths, n=1) or difflib.get_close_matches(name, paths, n=1)
    return near[0] if near else ""


def _leaves(values: Sequence[Mapping[str, Any]]) -> list[_Leaf]:
    """Return the fields that hold text, in order of appearance."""
    texts: dict[str, list[str]] = {}
    for value in values:
        for path, found in _walk(value):
            if isinstance(found, str) and found.strip():
                texts.setdefault(path, []).append(found)
    return [
        _Leaf(path, median(map(len, found)), _reads_like_prose(found))
        for path, found in texts.items()
        if 2 * len(found) > len(values)
    ]


def _reads_like_prose(texts: Sequence[str]) -> bool:
    if len(texts) > 4 and len(set(texts)) < _DISTINCT * len(texts):
        return False
    spaced = sum(len(text.split()) > 1 or (not text.isascii() and len(text) >= _PROSE) for text in texts)
    return 2 * spaced > len(texts)


def _walk(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted paths and values of a record, of lists the first item, objects from the top down."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen = 0
    while waiting and seen < _MOST_FIELDS:
        path, found, level = waiting.pop(0)
        seen += 1
        if path and look_up(value, path) is found:
            yield path, found
        inner = found.items() if isinstance(found, Mapping) else [("0", found[0])] if _is_list(found) else ()
        if level < _DEEPEST:
            waiting.extend((f"{path}.{key}" if path else str(key), item, level + 1) for key, item in inner)


def _is_list(value: Any) -> bool:
    """Return whether a value is a list whose first item may hold a field: not that of a conversation."""
    return isinstance(value, list) and bool(value) and not (isinstance(value[0], Mapping) and "role" in value[0])


def _lengths(fields: Mapping[str, str], leaves: Iterable[_Leaf]) -> str:
    known = {leaf.path: leaf.length for leaf in leaves}
    said = [f"{path}: {known[path]:,.0f}" for path in fields.values() if path in known]
    return f" (typical characters: {', '.join(said)})" if said else ""


def _as_yaml(fields: Mapping[str, str]) -> str:
    return yaml.safe_dump(
        dict(fields), default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    ).strip()
