"""A first look at a source: whether its records have the fields that are read, before anything is written."""

import difflib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mira.config.settings import SourceSettings
from mira.corpus.families import FieldProblem, find_family, look_up, render
from mira.corpus.files.lines import read_lines, size_of
from mira.corpus.files.tables import schema
from mira.corpus.parse import BadLine, Parser, to_object
from mira.corpus.propose import propose
from mira.corpus.record import Record, Rejection
from mira.corpus.shards import Shard, format_of
from mira.errors import InputError

__all__ = ["check_fields", "peek"]

_FIRST = 100
_SAMPLED_SHARDS, _SAMPLED_PLACES, _SAMPLED_LINES = 16, 8, 25
_SAMPLED_BYTES = 2**24  # from a place in a file
_SCANNED, _SCANNED_STEP = 200_000, 50  # rows of all shards that cannot be entered in the middle
_MOST_KEYS = 40  # named in a message


def peek(source: SourceSettings, found: list[Shard], longest: int) -> Record:
    """Return the first valid record of a source, without an index; `n_tokens` is 0.

    Args:
        source: The source.
        found: Its shards.
        longest: Longer lines and rows are rejected, in bytes.

    Raises:
        InputError: No record is valid; with the first reason, and how the fields may be mapped.
    """
    parser = Parser(source, longest)
    first, fields = "", False
    for item in (item for shard in found for item in parser.parse(shard)):
        if isinstance(item, Record):
            return item
        first = first or f"First: {item.detail}"
        fields |= item.reason in (Rejection.BAD_FIELD, Rejection.EMPTY_TEXT)
    problem = "every record is rejected" if first else f"{found[0].path}: no record in it"
    proposed = propose(source, _first_values(found, parser, longest)) if fields else ""
    hint = "\n  ".join(part for part in (first, f"{proposed}." if proposed else "") if part)
    raise InputError(f"source '{source.name}': {problem}", hint or "Fill the source, or take it out of sources.")


def check_fields(source: SourceSettings, found: list[Shard], longest: int) -> str:
    """Look whether the records have the fields that are read, and the id where it is mapped.

    Returns:
        "", or a warning where the first records have not and others have.

    Raises:
        InputError: A field is missing from the first records, and from a sample spread over the source: the mapping
            is wrong.
    """
    parser = Parser(source, longest)
    missing: Counter[str] = Counter()
    where = ""
    keys: list[str] = []
    raws = ((shard, row, raw) for shard in found for row, raw in parser.raw(shard))
    for shard, row, raw in islice(raws, _FIRST):
        try:
            value = to_object(raw, longest)
            lacking = _lacking(source, value)
        except (BadLine, FieldProblem):
            continue
        if not lacking:
            return ""
        missing[lacking] += 1
        where, keys = where or shard.where(row), keys or _keys(shard, value)
    if not missing:
        return ""
    field = missing.most_common(1)[0][0]
    if not any(_is_whole(source, raw, longest) for raw in _spread(found, parser, longest)):
        _refuse(source, field, where, keys, _first_values(found, parser, longest))
    return f"field '{field}' is missing in the first {sum(missing.values()):,} records ({where}); others have it"


def _lacking(source: SourceSettings, value: dict[str, Any]) -> str:
    """Return the field that a record lacks; "" where it lacks none, whatever else may be wrong with it."""
    try:
        render(source.family, value, source.fields)
    except FieldProblem as problem:
        return problem.field if problem.reason is Rejection.MISSING_FIELD else ""
    id_field = source.fields.get("id")
    return id_field if id_field and look_up(value, id_field) is None else ""


def _is_whole(source: SourceSettings, raw: Any, longest: int) -> bool:
    try:
        value = to_object(raw, longest)
        render(source.family, value, source.fields)
    except (BadLine, FieldProblem):
        return False
    return not _lacking(source, value)


def _spread(found: list[Shard], parser: Parser, longest: int) -> Iterator[Any]:
    """Yield lines or rows from all over a source."""
    step = max(1, len(found) // _SAMPLED_SHARDS)
    chosen = dict.fromkeys([*found[::step], found[-1]])
    for shard in chosen:
        fmt = format_of(shard.path)
        if fmt.kind == "jsonl" and not fmt.compression:
            yield from _from_places(shard, longest)
        else:
            rows = islice(parser.raw(shard), 0, max(_SCANNED // len(chosen), _FIRST), _SCANNED_STEP)
            yield from (raw for _, raw in rows)


def _from_places(shard: Shard, longest: int) -> Iterator[Any]:
    start, stop = shard.start or 0, shard.stop or size_of(shard.path)
    for k in range(_SAMPLED_PLACES):
        at = start + (stop - start) * k // _SAMPLED_PLACES
        lines = read_lines(shard.path, "", at, min(stop, at + _SAMPLED_BYTES), longest)
        yield from (line for _, line in islice(lines, 1 if k else 0, _SAMPLED_LINES))  # a place is inside a line


def _keys(shard: Shard, value: dict[str, Any]) -> list[str]:
    kind = format_of(shard.path).kind
    return list(value) if kind == "jsonl" else list(schema(shard.path, kind).names)


def _first_values(found: list[Shard], parser: Parser, longest: int) -> list[dict[str, Any]]:
    """Return the first records whole: of tables, with all their columns."""
    values: list[dict[str, Any]] = []
    for shard in found[:_SAMPLED_SHARDS]:
        kind = format_of(shard.path).kind
        columns = [] if kind == "jsonl" else list(schema(shard.path, kind).names)
        for _, raw in islice(parser.raw(shard, columns), _FIRST - len(values)):
            try:
                values.append(to_object(raw, longest))
            except BadLine:
                continue
    return values


def _refuse(source: SourceSettings, field: str, where: str, keys: list[str], values: list[dict[str, Any]]) -> None:
    mine = next((n for n in (*find_family(source.family).required, "id") if source.fields.get(n, n) == field), field)
    if mine == "id":
        near = difflib.get_close_matches(field, keys, n=1) or difflib.get_close_matches("id", keys, n=1, cutoff=0.4)
        hint = (
            f"Map it with fields: {{id: {near[0] if near else 'your_field'}}}, "
            "or leave it out: ids are then made of the text."
        )
    else:
        proposed = propose(source, values) or f"Map it with fields: {{{mine}: your_field}}"
        another = "" if "look like family" in proposed else f", or choose another family than {source.family}"
        hint = f"{proposed}{another}."
    shown = ", ".join(keys[:_MOST_KEYS]) + (f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else "")
    raise InputError(
        f"source '{source.name}': field '{field}' is missing in {where}; it has: {shown or 'no field'}", hint
    )
