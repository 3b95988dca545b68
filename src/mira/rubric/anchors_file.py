"""Reading an anchors file: mira's own form, and the forms in which other people publish rubrics.

mira writes one JSON object per line (docs/reference/anchors.md). Released files name the same things differently, so
each field has aliases, and a file may also be one JSON array or one object. What is read is written in mira's form.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from mira.errors import InputError
from mira.rubric.anchor import Anchor, Reference
from mira.rubric.slots import slot_name

__all__ = ["ALIASES", "CONTAINERS", "REFERENCE_ALIASES", "read_anchors"]

ALIASES: dict[str, tuple[str, ...]] = {
    "slot": ("id", "anchor_id", "slot_id", "dim_id", "key", "index", "idx", "rank", "number"),
    "name": (
        "dimension", "anchor_dim", "anchor_dimension", "dim", "dim_name", "dimension_name", "anchor_name", "anchor",
        "label", "title", "criterion",
    ),
    "cluster_size": ("size", "count", "n", "n_points", "num_points", "points", "members", "support"),
    "cohesion": (),
    "exemplar": ("example", "representative", "anchor_point", "anchor"),
    "near_names": ("similar_names", "other_names", "aliases", "synonyms", "variants"),
    "references": ("calibration_references", "calibration", "canonical_examples", "examples", "exemplars", "refs"),
}  # fmt: skip
"""Field of an anchor -> other names that it may have; the first that is there counts."""

REFERENCE_ALIASES: dict[str, tuple[str, ...]] = {
    "score": ("rating",),
    "reason": ("rationale", "justification", "explanation"),
    "record": ("record_id", "id", "doc_id", "sample_id"),
    "source": ("dataset",),
    "dimension": ("name", "anchor_dim", "dim", "label"),
}
"""Field of an exemplar or a reference -> other names that it may have."""

CONTAINERS = ("anchors", "dimensions", "anchor_dims", "dims", "slots", "rubric")
"""Keys under which a file that is one object may hold its anchors."""

_HINT = (
    'An anchor is a JSON object such as {"slot": "A1", "name": "Signal-to-Noise Ratio"}; the page "Anchors" has more.'
)
_SLOT = re.compile(r"\[?\s*a[-_ ]?0*([1-9][0-9]{0,2})\s*\]?", re.IGNORECASE)
_NUMBER = re.compile(r"0*([0-9]{1,3})")
_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:/\s*10\s*)?")
_MOST_POINTS = 2**53
_MOST_KEYS = 20  # named in a message


class _Wrong(Exception):
    """What is wrong with an anchor, as the rest of a sentence."""


def read_anchors(data: bytes, where: str) -> list[Anchor]:
    """Read the anchors in a file, by slot.

    Args:
        data: The file: one JSON object per line, one JSON array, or one object that holds either.
        where: What messages call the file.

    Returns:
        The anchors in order of slot. Where the file names no slots, the order of its lines counts.

    Raises:
        InputError: It is not JSON, an entry is not an anchor, or the numbers of the entries contradict their order.
    """
    anchors, named, numbered = [], [], []
    for place, value in _entries(data, where):
        try:
            fields = _fields(value)
            slot = _named_slot(fields)
            anchors.append(_anchor(fields))
            named.append(slot)
            numbered.append(_number(fields))
        except _Wrong as wrong:
            raise InputError(f"{place}: not an anchor: {wrong}", _HINT) from None
    return _in_order(anchors, named, numbered, where)


def _entries(data: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of every entry."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        whole = orjson.loads(data) if data.strip() else []
    except orjson.JSONDecodeError:
        for number, line in enumerate(data.splitlines(), 1):
            if line.strip():
                try:
                    yield f"{where}:{number}", orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise InputError(f"{where}:{number}: not an anchor: not JSON: {error}", _HINT) from None
        return
    found = _held(whole)
    if isinstance(found, list):
        yield from ((f"{where}: entry {number}", value) for number, value in enumerate(found, 1))
    elif isinstance(found, dict) and found and all(_SLOT.fullmatch(key) for key in found):
        for slot, value in found.items():
            given = value if isinstance(value, dict) else {"name": value}
            yield f"{where}: {slot}", {"slot": slot, **given}
    else:
        yield f"{where}:{data[: -len(data.lstrip())].count(10) + 1}", found


def _held(value: Any) -> Any:
    """Return what an object holds as its anchors; the value itself where it holds none."""
    if not isinstance(value, dict) or "name" in value:
        return value
    return next((value[key] for key in CONTAINERS if isinstance(value.get(key), list | dict)), value)


def _fields(value: Any) -> dict[str, Any]:
    """Return an entry's fields that are not null, with keys in one spelling: "Anchor-Dim" is anchor_dim."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict):
        raise _Wrong(f"expected an object, found {_kind(value)}")
    there = {key: inner for key, inner in value.items() if inner is not None}
    return {_spelling(key): inner for key, inner in there.items()} | {k: v for k, v in there.items() if k in ALIASES}


def _spelling(key: str) -> str:
    return re.sub(r"[\s-]+", "_", key.strip()).lower()


def _first(fields: Mapping[str, Any], name: str, aliases: Mapping[str, Sequence[str]] = ALIASES) -> Any:
    return next((fields[key] for key in (name, *aliases[name]) if key in fields), None)


def _found_keys(fields: Mapping[str, Any]) -> str:
    keys = [key[:40] for key in fields]
    more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
    return f"found keys: {', '.join(keys[:_MOST_KEYS]) or 'none'}{more}"


def _named_slot(fields: Mapping[str, Any]) -> int | None:
    """Return the slot that an entry names: 3 for "A3", in `slot` also for 3; None if it names none."""
    given = fields.get("slot")
    if given is not None:
        match = _SLOT.fullmatch(str(given)) or _NUMBER.fullmatch(str(given))
        if match is None:
            raise _Wrong(f"slot is {str(given)[:40]!r}, expected A1, A2, ...")
        return int(match[1])
    values = (fields.get(key) for key in (*ALIASES["slot"], "anchor", "label"))
    matches = (_SLOT.fullmatch(value) for value in values if isinstance(value, str))
    return next((int(match[1]) for match in matches if match), None)


def _number(fields: Mapping[str, Any]) -> int | None:
    """Return the number that an entry gives beside its slot, such as `"id": 3`."""
    values = (fields.get(key) for key in ALIASES["slot"])
    matches = (_NUMBER.fullmatch(str(value)) for value in values if isinstance(value, int | str))
    return next((int(match[1]) for match in matches if match), None)


def _in_order(anchors: list[Anchor], named: list[int | None], numbered: list[int | None], where: str) -> list[Anchor]:
    """Give every anchor its slot: the one it names, or its place in the file."""
    slots = [slot for slot in named if slot is not None]
    if slots and len(slots) < len(named):
        place = named.index(None) + 1
        raise InputError(
            f"{where}: entry {place} names no slot, others do", "Give every entry its slot, or none: then order counts."
        )
    if not slots:
        numbers = [number for number in numbered if number is not None]
        first = min(numbers, default=0)
        expected = list(range(first, first + len(anchors)))
        if first <= 1 and sorted(numbers) == expected != numbers:
            shown = ", ".join(map(str, numbers[:5]))
            raise InputError(
                f"{where}: the entries are numbered {shown}, ...: another order than theirs in the file",
                "Sort the entries, or take the numbers out: then their order in the file counts.",
            )
        slots = list(range(1, len(anchors) + 1))
    elif min(slots) == 0:
        slots = [slot + 1 for slot in slots]
    order = sorted(range(len(anchors)), key=slots.__getitem__)
    return [_with_slot(anchors[at], slot_name(slots[at] - 1)) for at in order]


def _with_slot(anchor: Anchor, slot: str) -> Anchor:
    return Anchor(
        slot, anchor.name, anchor.cluster_size, anchor.exemplar, anchor.near_names, anchor.references, anchor.cohesion
    )


def _anchor(fields: Mapping[str, Any]) -> Anchor:
    exemplar = _exemplar(fields)
    cohesion = fields.get("cohesion")
    return Anchor(
        slot="",
        name=_name(fields, exemplar),
        cluster_size=_size(fields),
        exemplar=exemplar or Reference("", 0.0, ""),
        near_names=_near_names(_first(fields, "near_names")),
        references=tuple(_references(_first(fields, "references"))),
        cohesion=None if cohesion is None else _as_number(cohesion, "cohesion"),
    )


def _name(fields: Mapping[str, Any], exemplar: Reference | None) -> str:
    given = fields.get("name")
    if isinstance(given, str) and given.strip():
        return given
    if given is not None:
        raise _Wrong("name is empty" if given == "" or isinstance(given, str) else f"name is {_kind(given)}, not text")
    others = (fields.get(key) for key in ALIASES["name"])
    found = next((v for v in others if isinstance(v, str) and v.strip() and not _SLOT.fullmatch(v)), "")
    if found or (exemplar and exemplar.dimension):
        return found or (exemplar.dimension if exemplar else "")
    raise _Wrong(f"field 'name' is missing; {_found_keys(fields)}")


def _size(fields: Mapping[str, Any]) -> int:
    value = _first(fields, "cluster_size")
    value = len(value) if isinstance(value, list) else value
    if value is None:
        return 0
    size = _as_number(value, "cluster_size")
    if not (size.is_integer() and 0 <= size <= _MOST_POINTS):
        raise _Wrong(f"cluster_size is {value}, not a number of judgment points")
    return int(size)


def _exemplar(fields: Mapping[str, Any]) -> Reference | None:
    """Return the exemplar: an object, a reason alone, or fields of the anchor itself."""
    for key in ("exemplar", *ALIASES["exemplar"]):
        value = fields.get(key)
        if key == "anchor" and not isinstance(value, dict):
            continue  # a name or a slot
        if value is not None and value != {}:
            # an earlier mira left out the reason of an exemplar that had none
            return _reference(
                {"reason": "", **value} if isinstance(value, dict) and not _has_reason(value) else value, key
            )
    flat = {
        key: fields[key] for name in ("score", "reason") for key in (name, *REFERENCE_ALIASES[name]) if key in fields
    }
    return _reference(flat, "exemplar") if _has_reason(flat) else None


def _has_reason(value: Mapping[str, Any]) -> bool:
    return _first(_fields(value), "reason", REFERENCE_ALIASES) is not None


def _references(value: Any) -> Iterator[Reference]:
    """Yield references from a list, from an object such as {"low": ..., "high": ...}, or from one of them."""
    if value is None:
        return
    if isinstance(value, dict):
        value = list(value.values()) if value and all(isinstance(v, dict) for v in value.values()) else [value]
    if not isinstance(value, list):
        raise _Wrong(f"references is {_kind(value)}, not a list")
    for number, item in enumerate(value, 1):
        yield _reference(item, f"reference {number}")


def _reference(value: Any, what: str) -> Reference:
    if isinstance(value, str):
        value = {"reason": value}
    if not isinstance(value, dict):
        raise _Wrong(f"{what} is {_kind(value)}, not an object with score and reason")
    fields = _fields(value)
    texts = {name: _first(fields, name, REFERENCE_ALIASES) for name in ("reason", "record", "source", "dimension")}
    if texts["reason"] is None:
        raise _Wrong(f"{what} has no reason; {_found_keys(fields)}")
    for name, text in texts.items():
        if name == "record" and isinstance(text, int):
            texts[name] = str(text)
        elif name == "record" and isinstance(text, float):
            raise _Wrong(f"{what}: record is {text}, not a whole number below 2**64; write the record's id as text")
        elif text is not None and not isinstance(text, str):
            raise _Wrong(f"{what}: {name} is {_kind(text)}, not text")
    score = _first(fields, "score", REFERENCE_ALIASES)
    return Reference(
        record=texts["record"] or "",
        score=None if score is None else _score(score, what),
        reason=texts["reason"],
        source=texts["source"] or "",
        dimension=texts["dimension"] or "",
    )


def _score(value: Any, what: str) -> float:
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    score = float(match[1]) if match else _as_number(value, f"{what}: score")
    if not 0 <= score <= 10:
        raise _Wrong(f"{what}: score is {value}, not between 0 and 10")
    return score


def _near_names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, list | dict) else value
    if names is None:
        return ()
    names = [name[0] if isinstance(name, list) and name else name for name in names] if isinstance(names, list) else 0
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Wrong("near_names is not a list of names")
    return tuple(names)


def _as_number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Wrong(f"{what} is {_kind(value)}, not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _Wrong(f"{what} is {str(value)[:40]!r}, not a number")
    return number


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null")
