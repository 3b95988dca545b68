"""What an endpoint said, short enough for a message."""

from mira.progress import printable

__all__ = ["excerpt"]


def excerpt(text: str, most: int) -> str:
    """Return the first `most` characters in quotation marks, on one line and printable; "" in words."""
    words = printable(" ".join(text[: 8 * most].split()))
    if not words:
        return "an empty text"
    return f'"{words[:most]}…"' if len(words) > most or len(text) > 8 * most else f'"{words}"'
