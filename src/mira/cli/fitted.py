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
    cells = [columns, *rows, *([total] if total else [])]
    widths = [max(len(word) for word in columns[i].split() or [""]) for i in range(len(columns))]
    widths = [max([w, *(len(row[i]) for row in cells[1:])]) for i, w in enumerate(widths)]
    most = console.width - _first(widths, console.width) - _BETWEEN
    widths = [widths[0], *(min(w, max(most, 1)) for w in widths[1:])]
    for at, chosen in enumerate(_parts(widths, console.width)):
        table = Table(title=Text(printable(title)) if at == 0 else None, title_justify="left")
        for i in (0, *chosen):
            # Numbers keep their width and names are folded: half a number is worse than half a name.
            table.add_column(
                Text(printable(columns[i])),
                justify="right" if i else "left",
                overflow="fold",
                min_width=widths[i] if i else None,
            )
        for row in rows:
            table.add_row(*(Text(printable(row[i])) for i in (0, *chosen)))
        if total:
            table.add_section()
            table.add_row(*(Text(printable(total[i])) for i in (0, *chosen)))
        console.print(table)


def _first(widths: Sequence[int], room: int) -> int:
    """Return what the first column takes at least, with its lines; a long name is folded."""
    return min(widths[0], max(room // 3, 8)) + _BETWEEN + 1


def _parts(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yield which columns besides the first go into each table; at least one, however narrow the console."""
    part: list[int] = []
    used = first = _first(widths, room)
    for i in range(1, len(widths)):
        if part and used + widths[i] + _BETWEEN > room:
            yield part
            part, used = [], first
        part.append(i)
        used += widths[i] + _BETWEEN
    yield part
