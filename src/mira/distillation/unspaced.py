"""Texts in scripts that put no space between words (Chinese, Japanese, Thai, ...), for features that count words.

In such a text every character is a word, as in `mira.flags.words`, and full-width marks count as the ASCII marks that
they stand for. A text counts as such from a tenth of its characters on, so that a name in Chinese characters changes
nothing in an English text. All of it is ours.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mira.flags.words import UNSPACED

__all__ = ["READING", "as_before", "is_unspaced", "pairs_of_words", "plain_marks", "words"]

READING = 1
"""Kept in bundles: how their students read such texts. Students without it were trained before there was a rule."""

_LEAST_SHARE = 0.1
_RANGES = "".join(f"{chr(first)}-{chr(stop - 1)}" for first, stop in UNSPACED)
_LONE = re.compile(f"[{_RANGES}]")
_WORD = re.compile(f"[{_RANGES}]|(?:(?![{_RANGES}])[^\\W\\d_])+")
_RUN = re.compile(f"[{_RANGES}]+|(?:(?![{_RANGES}])[^\\W\\d_]){{2,}}")
_MARKS = str.maketrans(
    {
        "。": ". ", "．": ". ", "！": "! ", "？": "? ", "，": ", ", "、": ", ", "；": "; ", "：": ": ", "…": "... ",
        "（": "(", "）": ")", "【": "[", "】": "]", "［": "[", "］": "]", "｛": "{", "｝": "}",
        "「": '"', "」": '"', "『": '"', "』": '"', "“": '"', "”": '"', "‘": "'", "’": "'", "《": '"', "》": '"',
    }
)  # fmt: skip
_ENDS = re.compile(f"(?<=[!?;,])(?=[{_RANGES}])")
_before: ContextVar[bool] = ContextVar("before", default=False)


@contextmanager
def as_before(*, on: bool) -> Iterator[None]:
    """Read all texts as students without `READING` were trained to, while the context lasts."""
    token = _before.set(on)
    try:
        yield
    finally:
        _before.reset(token)


def is_unspaced(text: str) -> bool:
    """Return whether at least a tenth of a text is in a script without spaces."""
    if text.isascii() or _before.get():
        return False
    return sum(1 for _ in _LONE.finditer(text)) >= _LEAST_SHARE * len(text)


def words(text: str) -> list[str]:
    """Return the words of such a text: each of its characters, and runs of letters of other scripts."""
    return [word.lower() for word in _WORD.findall(text)]


def pairs_of_words(text: str) -> list[str]:
    """Return what stands for words of two letters or more: pairs of neighbouring characters, and runs of letters."""
    found: list[str] = []
    for run in _RUN.findall(text):
        if _LONE.match(run):
            found.extend(run[i : i + 2] for i in range(max(len(run) - 1, 1)))
        else:
            found.append(run.lower())
    return found


def plain_marks(text: str) -> str:
    """Return a text with ASCII marks for its full-width marks, and a space after each mark that ends a clause."""
    return _ENDS.sub(" ", text.translate(_MARKS))
