"""Replies as most models write them, read by one pattern for the whole reply.

All slots in rubric order under their own names, in plain text or Markdown, then the four closing lines. Every part of
the pattern is narrower than its counterpart in `_lines` and `_score`, so it says what they would say, several times as
fast, and refuses nothing and believes nothing that they do not.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from mira.judging.grammar.normalise import name_pattern
from mira.judging.grammar.tolerant import Closing, tidy

__all__ = ["Usual", "read_common"]


class Usual(NamedTuple):
    """What a reply says: a number from 0 to 10 and a rationale per slot, and the closing lines."""

    numbers: tuple[str, ...]
    rationales: tuple[str, ...]
    closings: list[Closing]


_TEXT = r"[^\n\r\x85\u2028\u2029]"  # no line break, as `flatten` knows them
_END = r"\r?\n(?:[ \t]*\r?\n)*+"
_BOLD = "[*_`]{0,3}"
_KEYS = {"overall": "overall", "training_recommendation": "recommendation", "domain_tag": "domain", "brief": "brief"}
_OTHER_LINE = (
    r"(?i:a\d|(?:slot|dim|dimension|anchor|criterion|overall|training|recommendation|domain|brief"
    r"|rationale|justification|reason)(?![a-z]))"
)


def _introduction() -> str:
    return rf"(?:(?!{_OTHER_LINE})[A-Za-z][A-Za-z ,.'’!-]{{0,100}}:[ ]?{_END})?"


def _slot(slot: str, name: str) -> str:
    """Return the pattern of a slot's lines, with groups for number and rationale; atomic, so that it fails at once."""
    number = rf"(10|[0-9](?:\.[0-9])?)(?:[ ]?{_BOLD}/[ ]?10)?"
    # A word must follow, for a digit could be the other end of a range.
    same_line = r"""[—–:-][ ]{1,2}(?=[*_`"'“‘(\[]{0,3}[^\W\d_])"""
    next_line = rf"\r?\n[ ]{{0,8}}(?=[^\W\d_])(?!{_OTHER_LINE})"
    return rf"""(?>
        [ ]{{0,4}} (?:[-*•>\#]{{1,3}}[ ]|\d{{1,2}}[.)][ ])? {_BOLD}
        (?:\[{slot}\]|\({slot}\)|{slot}(?!\w)) [ *_`.:)—–-]{{0,6}}
        (?i:{re.escape(name)})(?!\w) (?:[ ][A-Za-z]{{1,14}}){{0,6}}
        [ *_`]{{0,4}} [:—–-] [ :*_`—–-]{{0,6}} (?<=[ :—*_`])
        {number} {_BOLD} [ ]? (?:{same_line}|{next_line}) ({_TEXT}++) {_END}
    )"""


def _closing(key: str) -> str:
    return rf"(?:[-*][ ])?{_BOLD}(?i:{key}){_BOLD}:({_TEXT}*+)"


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return a pattern with two groups per slot and one per closing line; None if a name has no character."""
    if not all(map(name_pattern, names)):
        return None
    slots = [_slot(f"A{i}", " ".join(name.split())) for i, name in enumerate(names, 1)]
    closings = _END.join(map(_closing, _KEYS))
    return re.compile(f"{_introduction()}{''.join(slots)}{closings}\\s*\\Z", re.VERBOSE)


def read_common(text: str, names: tuple[str, ...]) -> Usual | None:
    """Return what a reply says, or None when it is written in any other way; `names` in rubric order."""
    pattern = _pattern(names)
    match = pattern.match(text) if pattern and "<|" not in text else None
    if not match:
        return None
    groups, n = match.groups(), 2 * len(names)
    rationales = tuple(tidy([rationale.strip()]) for rationale in groups[1:n:2])
    closings = [Closing(key, said.strip(), False) for key, said in zip(_KEYS.values(), groups[n:], strict=True)]
    return Usual(groups[:n:2], rationales, closings)
