"""Reply text made plain without moving a character, so that positions in it are positions in the original."""

import re
from functools import lru_cache

__all__ = ["answer_start", "flatten", "name_pattern"]

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


_OPEN = re.compile(r"<(think|thinking|thought|reasoning|reflection)>|◁(think)▷", re.IGNORECASE)
_CLOSE = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>|◁/think▷", re.IGNORECASE)
_ALONE = re.compile(r"^[^\S\n]*(?:</(?:think|thinking|thought|reasoning|reflection)>|◁/think▷)[^\S\n]*$", re.I | re.M)
_FINAL = "<|channel|>final<|message|>"


def answer_start(flat: str, first_slot: int, *, truncated: bool) -> int:
    """Return where the answer starts: after the thinking, where there is any.

    A tag counts only before the first slot line, or alone on its line after it: a rationale may speak of `<think>`.
    An opened block that never closes hides nothing, except in a truncated reply, which is then all thinking.

    Args:
        flat: The flattened reply.
        first_slot: Position of the first line that looks like a slot's; `len(flat)` when there is none.
        truncated: The reply ended at its token limit.
    """
    if "<" not in flat and "◁" not in flat:
        return 0
    start = flat.rfind(_FINAL)
    start = 0 if start < 0 else start + len(_FINAL)
    opened = _OPEN.search(flat, start)
    while True:
        if opened and opened.start() < start:
            opened = _OPEN.search(flat, start)
        if opened and opened.start() < max(first_slot, start + 1):
            closed = _CLOSE.search(flat, opened.end())
            if not closed:
                return len(flat) if truncated else opened.end()
        else:
            closed = _CLOSE.search(flat, start)
            if not closed or closed.start() >= first_slot:
                closed = _ALONE.search(flat, start)
        if not closed:
            return start
        start = closed.end()
