"""Short HTML for notebooks: results show themselves. Every text is escaped, and none of it can run or turn around."""

from collections.abc import Iterable, Sequence
from html import escape

from mira.progress import printable

__all__ = ["Cell", "block", "paragraph", "table"]

Cell = str | int | float | None

_MOST_ROWS = 30
_LONGEST = 200  # letters of a cell


def block(*parts: str) -> str:
    """Return parts, which are HTML already, in one box."""
    return f"<div>{''.join(parts)}</div>"


def paragraph(text: str, *, strong: bool = False) -> str:
    """Return a line of text."""
    return f"<p style='margin:0.3em 0'>{'<b>' if strong else ''}{_shown(text)}{'</b>' if strong else ''}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table; numbers stand to the right. Of many rows only the first 30 are shown, and the rest is counted.

    Args:
        columns: Headings.
        rows: One sequence of cells per row. Whole numbers get commas, others two decimals, None a dash.
    """
    rows = list(rows)
    head = "".join(f"<th style='text-align:{'right' if i else 'left'}'>{_shown(c)}</th>" for i, c in enumerate(columns))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:_MOST_ROWS])
    more = paragraph(f"and {len(rows) - _MOST_ROWS:,} more rows") if len(rows) > _MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        side = "left" if any(c.isalpha() for c in value) else "right"
        return f"<td style='text-align:{side}'>{_shown(value)}</td>"
    shown = "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
    return f"<td style='text-align:right'>{shown}</td>"


def _shown(text: str) -> str:
    return escape(printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"))
