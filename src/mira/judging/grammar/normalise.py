"""Reply text made plain without moving a character, so that positions in it are positions in the original."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from mira.corpus.thinking import CLOSES, OPENS

__all__ = ["answer_start", "ends_thinking", "flatten", "lines_after_thinking", "name_pattern", "without_echo"]

# Full-width forms U+FF01..U+FF5E are ASCII shifted by 0xFEE0.
_TABLE: dict[int, int | str] = {0xFEE0 + code: code for code in range(0x21, 0x7F)}
_TABLE.update({ord(c): " " for c in "\u00a0\u1680\u202f\u205f\u3000\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\v\f"})
_TABLE.update(dict.fromkeys(range(0x2000, 0x200B), " "))
_TABLE.update({ord(c): "\n" for c in "\r\x85\u2028\u2029"})
_TABLE.update({ord(odd): plain for odd, plain in zip("【】〔〕⁄∕∶‑‐―", "[][]//:--—", strict=True)})
_ODD = re.compile("[" + "".join(map(re.escape, map(chr, _TABLE))) + "]")


def flatten(text: str) -> str:
    r"""Return `text` with the same length, where odd forms are plain.

    Full-width forms become ASCII, exotic spaces and invisible characters become spaces, every line break becomes one
    "\n" (of "\r\n" the first half becomes a space), and Markdown's `*`, `_` and backtick become spaces.
    """
    flat = text.replace("\r\n", " \n") if "\r" in text else text
    if _ODD.search(flat):
        flat = flat.translate(_TABLE)
    return flat.replace("*", " ").replace("`", " ").replace("_", " ")


@lru_cache(maxsize=4096)
def name_pattern(name: str) -> re.Pattern[str] | None:
    """Return a pattern that finds a dimension's name in flattened text, or None for a name without any character.

    Case and the amount of white space do not matter. The pattern eats the punctuation between a slot id and the name.
    """
    words = flatten(name).split()
    if not words:
        return None
    body = r"\s+".join(map(re.escape, words))
    return re.compile(r"[^\w\n]*?" + body + r"(?!\w)", re.IGNORECASE)


_EMPTY_TAG = re.compile(r"<\w{1,20}>\Z")
_MOST_BLOCKS = 500  # of thinking: whoever writes more has not written a reply


def answer_start(flat: str, heads: Sequence[tuple[int, int]], *, truncated: bool) -> tuple[int, bool]:
    """Return where the answer starts, after the last of the thinking, and whether thinking was opened and not closed.

    A rationale may speak of `<think>`. So after the first slot line a closing marker counts only where it is alone on
    its line, ends the reply, or has lines of the same slot before and after it.

    Args:
        flat: The flattened reply.
        heads: (position, slot) of all lines that look like a slot's, also right after a closing marker; ascending.
        truncated: The reply ended at its token limit: an opened block that never closes is then the whole reply.
    """
    start, length = 0, _length(flat)
    opened = OPENS.search(flat)
    for _ in range(_MOST_BLOCKS):
        if opened and opened.start() < start:
            opened = OPENS.search(flat, start)
        begun = bisect_left(heads, (start, 0))
        first = heads[begun][0] if begun < len(heads) else len(flat)
        if opened and opened.start() < max(first, start + 1):
            closed = CLOSES.search(flat, opened.end())
            if not closed:
                return (len(flat) if truncated else opened.end()), True
        else:
            closed = _closing_marker(flat, heads[begun:], start, first, length)
        if not closed:
            return start, False
        start = closed.end()
    return len(flat), True


def _length(flat: str) -> int:
    """Return where the last visible character ends, without an opening tag that nothing follows."""
    text = flat.rstrip()
    tag = _EMPTY_TAG.search(text, max(0, len(text) - 24))
    return len(text[: tag.start()].rstrip() if tag else text)


def _closing_marker(
    flat: str, heads: Sequence[tuple[int, int]], start: int, first: int, length: int
) -> re.Match[str] | None:
    """Return the next marker from `start` on that ends thinking whose opening is not there."""
    last = {slot: position for position, slot in heads}
    seen, again = 0, -1  # heads before the marker, and the last line of any of their slots
    for closed in CLOSES.finditer(flat, start):
        while seen < len(heads) and heads[seen][0] < closed.start():
            again = max(again, last[heads[seen][1]])
            seen += 1
        line_end = flat.find("\n", closed.end())
        after = flat[closed.end() : len(flat) if line_end < 0 else line_end]
        alone = not after.strip() and not flat[flat.rfind("\n", 0, closed.start()) + 1 : closed.start()].strip()
        if closed.start() < first or alone or closed.end() >= length or again >= closed.end():
            return closed
    return None


def ends_thinking(text: str) -> bool:
    """Return whether a reply holds a marker that closes thinking, wherever it stands."""
    return _hints_at_thinking(text) and CLOSES.search(flatten(text)) is not None


def _hints_at_thinking(text: str) -> bool:
    # Every reply passes here: a single character is found many times as fast as two.
    return (
        ("<" in text and ("</" in text or "<unused95>" in text))
        or (">" in text and "|>" in text)
        or "▷" in text
        or "\uff1e" in text
        or "[/" in text
        or "assistantfinal" in text
        or "ere is my response:" in text
    )


def lines_after_thinking(flat: str) -> str:
    """Return `flat` with a line break in the place of the last character of every closing marker."""
    return CLOSES.sub(lambda match: match[0][:-1] + "\n", flat)


# A line of the fence that `_fence` puts around a record.
_MARK = re.compile(
    r"(?:--- )?(?P<mark>[0-9a-f]{16}) RECORD (?P<side>BEGINS|ENDS)[^\S\n]*-*|--- [0-9a-f]{16} [^\n]* ---"
)


def without_echo(text: str) -> str:
    """Return `text` of the same length without what it repeats of the record that was judged.

    The marks of the fence tell what that is. Where the record's end is not there, nothing from its start on is left;
    where its start is not there, nothing up to its end.
    """
    if "RECORD " not in text and "--- " not in text:
        return text
    marks = list(_MARK.finditer(text))
    if not marks:
        return text
    begins = marks[0]["side"] == "BEGINS"
    begin = marks[0].start() if begins else 0
    # The record itself may hold a line like the fence's, with another mark.
    ends = [m.end() for m in marks if m["side"] == "ENDS" and (not begins or m["mark"] == marks[0]["mark"])]
    end = ends[-1] if ends and (begins or ends[-1] == marks[-1].end()) else len(text)
    return text[:begin] + "\n" * (end - begin) + text[end:]
