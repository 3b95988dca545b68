"""Filters and sorts of records: from an address to a query with parameters, and back to an address."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from starlette.datastructures import QueryParams

from mira.errors import InputError
from mira.viewer.records import FLAGS, STATES, Table

__all__ = ["PAGE", "Counted", "Wanted", "columns_of", "count", "page", "rows_at", "wanted_in", "where"]

PAGE = 50
_MOST_PAGES = 1000  # further down, a filter finds records faster than leafing through


@dataclass(frozen=True)
class Wanted:
    """Which records are looked for, and in what order.

    Attributes:
        sources: Their sources; all if empty.
        states: Of STATES; all if empty.
        reasons: Reasons of the decision; all if empty.
        flags: Of FLAGS: records with any of them; all if empty.
        ranges: Column -> (least, most), either may be None.
        id: What their id begins with.
        text: What their text contains.
        sort: Column that they are sorted by; "" for the order of files.
        descending: The largest first.
        page: From 1.
    """

    sources: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    id: str = ""
    text: str = ""
    sort: str = ""
    descending: bool = False
    page: int = 1

    def query(self, **changes: Any) -> dict[str, Any]:
        """Return the parameters of an address that asks for this, with changes."""
        wanted = replace(self, **{"page": 1, **changes})
        found: dict[str, Any] = {
            "source": wanted.sources, "state": wanted.states, "reason": wanted.reasons, "flag": wanted.flags,
            "id": wanted.id, "text": wanted.text, "sort": f"{'-' if wanted.descending else ''}{wanted.sort}",
            "page": wanted.page if wanted.page > 1 else None,
        }  # fmt: skip
        for name, (least, most) in wanted.ranges.items():
            found |= {f"{name}.min": _plain(least), f"{name}.max": _plain(most)}
        return {name: value for name, value in found.items() if value not in (None, "", ())}

    @property
    def is_filtered(self) -> bool:
        """Whether anything but the order is asked for."""
        return bool(self.sources or self.states or self.reasons or self.flags or self.ranges or self.id or self.text)


@dataclass(frozen=True, slots=True)
class Counted:
    """Records that a filter finds.

    Attributes:
        records: How many.
        tokens: Their tokens.
        states: State -> records.
    """

    records: int
    tokens: int
    states: Mapping[str, int]


def columns_of(table: Table) -> dict[str, str]:
    """Return the names that addresses use -> columns of the table."""
    names = {"source": "src", "tokens": "n_tokens", "chars": "n_chars"}
    found = {name: names.get(name, name) for name in ("source", "id", "row", "state", "reason", "tokens", "chars")}
    rest = [c for c in table.columns if c not in (*found.values(), "n_tokens", "n_chars") and not _is_value(c, table)]
    found |= {c: c for c in rest} | {f"value:{m}": f"m{i}" for i, m in enumerate(table.methods)}
    return found | {f"score:{s}": f"s{i}" for i, s in enumerate(table.foreign)}


def _is_value(column: str, table: Table) -> bool:
    return column in {*(f"m{i}" for i in range(len(table.methods))), *(f"s{i}" for i in range(len(table.foreign)))}


def wanted_in(query: QueryParams, table: Table) -> Wanted:
    """Read what an address asks for.

    Raises:
        InputError: A source, state, flag, column or number does not exist.
    """
    columns = columns_of(table)
    ranges: dict[str, tuple[float | None, float | None]] = {}
    for key, value in query.multi_items():
        name, _, end = key.rpartition(".")
        if end in ("min", "max") and name and value.strip():
            _known("column", name, [c for c in columns if c not in ("source", "id", "state", "reason")])
            least, most = ranges.get(name, (None, None))
            number = _number(key, value)
            ranges[name] = (number, most) if end == "min" else (least, number)
    sort = query.get("sort", "")
    wanted = Wanted(
        sources=tuple(_known("source", name, table.sources) for name in query.getlist("source") if name),
        states=tuple(_known("state", name, STATES) for name in query.getlist("state") if name),
        reasons=tuple(name for name in query.getlist("reason") if name),
        flags=tuple(_known("flag", name, FLAGS) for name in query.getlist("flag") if name),
        ranges=ranges,
        id=query.get("id", ""),
        text=query.get("text", "").strip(),
        sort=_known("column", sort.removeprefix("-"), list(columns)) if sort.removeprefix("-") else "",
        descending=sort.startswith("-"),
        page=int(_number("page", query.get("page") or "1")),
    )
    if not 1 <= wanted.page <= _MOST_PAGES:
        raise InputError(f"page {wanted.page:,}: pages are 1 to {_MOST_PAGES:,}", "Narrow the filter instead.")
    return wanted


def where(wanted: Wanted, table: Table) -> tuple[str, list[Any]]:
    """Return the condition of a filter, with its parameters."""
    conditions, given = ["true"], list[Any]()
    listed: list[tuple[str, Sequence[Any]]] = [
        ("src", [table.sources.index(name) for name in wanted.sources]),
        ("state", [STATES.index(name) for name in wanted.states]),
        ("reason", wanted.reasons),
    ]
    for column, values in listed:
        if values:
            conditions.append(f"{column} IN ({', '.join('?' for _ in values)})")
            given += values
    if wanted.flags:
        conditions.append("flags & ? != 0")
        given.append(sum(1 << FLAGS.index(name) for name in wanted.flags))
    columns = columns_of(table)
    for name, (least, most) in wanted.ranges.items():
        for sign, end in ((">=", least), ("<=", most)):
            if end is not None:
                conditions.append(f'"{columns[name]}" {sign} ?')
                given.append(end)
    if wanted.id:
        conditions.append("starts_with(id, ?)")
        given.append(wanted.id)
    return " AND ".join(conditions), given


def count(wanted: Wanted, table: Table) -> Counted:
    """Count the records that a filter finds; the text is not looked at."""
    condition, given = where(wanted, table)
    sql = f"SELECT state, count(*), coalesce(sum(n_tokens), 0)::BIGINT FROM records WHERE {condition} GROUP BY state"
    rows = table.query(sql, given)
    states = {STATES[state]: n for state, n, _ in sorted(rows)}
    return Counted(sum(states.values()), sum(tokens for _, _, tokens in rows), states)


def page(wanted: Wanted, table: Table, size: int = PAGE) -> list[dict[str, Any]]:
    """Return a page of the records that a filter finds, as rows of the table; the text is not looked at."""
    condition, given = where(wanted, table)
    order = "rowid"
    if wanted.sort:
        order = f'"{columns_of(table)[wanted.sort]}" {"DESC" if wanted.descending else "ASC"} NULLS LAST, rowid'
    sql = f"SELECT rowid FROM records WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?"
    places = [place for (place,) in table.query(sql, [*given, size, (wanted.page - 1) * size])]
    return rows_at(table, places)


def rows_at(table: Table, places: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows of the table in the order of their places."""
    if not places:
        return []
    rows = table.rows_of(  # a join is several times faster than a list of numbers in the condition
        "SELECT rowid AS place, * FROM records WHERE rowid IN (SELECT unnest(?::BIGINT[]))", [list(places)]
    )
    of_place = {row["place"]: row for row in rows}
    return [of_place[place] for place in places]


def _known(kind: str, name: str, names: Sequence[str]) -> str:
    if name not in names:
        near = get_close_matches(name, names, 1)
        raise InputError(f"there is no {kind} '{name}'", f"Did you mean '{near[0]}'?" if near else "Choose another.")
    return name


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name}: '{text}' is not a number", "For example: 7.5")
    return number


def _plain(number: float | None) -> str | None:
    return None if number is None else f"{number:.17g}" if number % 1 else f"{number:.0f}"
