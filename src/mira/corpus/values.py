"""Values of a record's fields: parsing JSON, finding them, and what is wrong with them."""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from mira.corpus.files.sniff import without_bom
from mira.corpus.record import Rejection

__all__ = ["FieldProblem", "as_list", "kind_of", "look_up", "parse_json", "parse_slowly"]

_MOST_DIGITS = 4300  # of a whole number, as in Python's json


class FieldProblem(Exception):
    """A field keeps an object from being a record.

    Attributes:
        reason: The rejection.
        field: The user's name of the field.
        what: What is wrong with it, as the rest of a sentence: "is missing".
    """

    def __init__(self, reason: Rejection, field: str, what: str) -> None:
        super().__init__(f"field '{field}' {what}")
        self.reason, self.field, self.what = reason, field, what


def parse_json(data: bytes | str) -> Any:
    """Parse JSON: strictly and fast, then as Python's json does, which also takes NaN and lone surrogates.

    Bytes are UTF-8 and nothing else. Byte order marks at their start are left out.

    Raises:
        ValueError: It is not JSON, or nested too deeply; UnicodeDecodeError where bytes are not UTF-8.
    """
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return parse_slowly(data)


def parse_slowly(data: bytes | str) -> Any:
    """Parse JSON as `parse_json` does, but with whole numbers of any size as they are, where that makes them floats.

    Raises:
        ValueError: As of `parse_json`.
    """
    # Python's json would take bytes as UTF-16 or UTF-32, and lone surrogates in UTF-8
    text = data if isinstance(data, str) else without_bom(data).decode()
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # Python's json would refuse the kept line
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def look_up(value: Mapping[str, Any], path: str) -> Any:
    """Return what `path` leads to in a nested object, or None."""
    found = value.get(path)
    if found is not None or "." not in path:
        return found
    current: Any = value
    for step in path.split("."):
        if isinstance(current, Mapping):
            current = current.get(step)
        elif isinstance(current, list) and step.isdecimal() and int(step) < len(current):
            current = current[int(step)]
        else:
            return None
    return current


def as_list(found: Any, name: str) -> list[Any] | None:
    """Return a field's list: as it is, as JSON text, or as an object of lists, which old data sets make of lists.

    Args:
        found: The field's value.
        name: What the user calls the field.

    Raises:
        FieldProblem: It is something else than a list or null.
    """
    if isinstance(found, str):
        try:
            found = parse_json(found)
        except ValueError:
            raise FieldProblem(Rejection.BAD_FIELD, name, "is a string, but not a list in JSON") from None
    if isinstance(found, Mapping) and found and all(isinstance(v, list) for v in found.values()):
        if len({len(v) for v in found.values()}) > 1:
            raise FieldProblem(Rejection.BAD_FIELD, name, "is an object of lists of different lengths")
        found = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    if found is not None and not isinstance(found, list):
        raise FieldProblem(Rejection.BAD_FIELD, name, f"is {kind_of(found)}, not a list")
    return found


def kind_of(value: Any) -> str:
    """Return what a value is, for messages: "a number"."""
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), f"of type {type(value).__name__}")
