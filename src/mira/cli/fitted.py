"""Tables that fit the terminal: columns that have no room beside the others follow in a table below."""

import os
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mira.progress import printable

__all__ = ["print_fitted", "wide_console"]

_BETWEEN = 3  # a column's line and blanks
_WITHOUT_TERMINAL = 180


def wide_console() -> Console:
    """Return a console as wide as the terminal; without one as wide as COLUMNS says, or wide enough for most tables."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WITHOUT_TERMINAL)


def print_fitted(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    total: Sequence[str] = (),
) -> None:
    """Print a table; if it is wider than the console, as several tables one below the other.

    Args:
        console: Where it goes.
        title: Above the first table.
        columns: Headings. The first column names the row, and stands in every table.
        rows: A text for every column. Columns but the first stand to the right.
        total: A last row, below a line; none if empty.
    """
    widths = [max(len(row[i]) for row in (columns, *rows, *([total] if total else []))) for i in range(len(columns))]
    if sum(widths) + _BETWEEN * len(widths) + 1 > console.width:  # then headings may be broken between words
        widths = [_broken(columns[i], [row[i] for row in (*rows, total) if row]) for i in range(len(columns))]
    first = min(widths[0], max(console.width // 3, 8))
    most = max(console.width - first - 2 * _BETWEEN - 1, 1)
    widths = [widths[0], *(min(w, most) for w in widths[1:])]
    for at, chosen in enumerate(_parts(widths, first, console.width)):
        table = Table(title=Text(printable(title)) if at == 0 else None, title_justify="left")
        room = console.width - sum(widths[i] + _BETWEEN for i in chosen) - _BETWEEN - 1
        for i in (0, *chosen):
            # Numbers keep their width and long names are folded: half a number is worse than half a name.
            table.add_column(
                Text(printable(columns[i])),
                justify="right" if i else "left",
                overflow="fold",
                width=widths[i] if i else min(widths[0], room),
            )
        for row in rows:
            table.add_row(*(Text(printable(row[i])) for i in (0, *chosen)))
        if total:
            table.add_section()
            table.add_row(*(Text(printable(total[i])) for i in (0, *chosen)))
        console.print(table)


def _broken(heading: str, cells: Sequence[str]) -> int:
    """Return the width of a column whose heading is broken between words."""
    return max(*(len(word) for word in heading.split()), *map(len, cells), 1)


def _parts(widths: Sequence[int], first: int, room: int) -> Iterator[list[int]]:
    """Yield which columns besides the first go into each table; at least one, however narrow the console.

    Args:
        widths: Of all columns.
        first: What the first column takes at least.
        room: Width of the console.
    """
    part: list[int] = []
    used = start = first + _BETWEEN + 1
    for i in range(1, len(widths)):
        if part and used + widths[i] + _BETWEEN > room:
            yield part
            part, used = [], start
        part.append(i)
        used += widths[i] + _BETWEEN
    yield part
