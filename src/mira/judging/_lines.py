"""The tolerant reading of a reply: find the slots' lines in whatever a model wrote, and what each of them says."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from mira.judging._flat import answer_start, flatten, name_pattern
from mira.judging._score import Found, later_score, score_at
from mira.judging.judgement import Unscored

__all__ = ["Answer", "Closing", "Reading", "read_reply"]


class Answer(NamedTuple):
    """What one line says of one slot.

    Attributes:
        slot: Counted from 1.
        value: In [0, 10], or None.
        reason: Why there is no value.
        rationale: "" where there is none.
        start: Where the digits start in the reply, -1 without a number.
        end: Where they end.
        open: The reply ends within this answer's number, so that a cut may have shortened it.
        misnamed: The line carries the name of another slot of the rubric.
    """

    slot: int
    value: float | None
    reason: Unscored | None
    rationale: str
    start: int
    end: int
    open: bool
    misnamed: bool


class Closing(NamedTuple):
    """A closing line: its key (overall, recommendation, domain or brief), its text, and whether it ends the reply."""

    key: str
    text: str
    last: bool


class Reading(NamedTuple):
    """All answers and closing lines of a reply, in the order in which they stand."""

    answers: list[Answer]
    closings: list[Closing]


class _Head(NamedTuple):
    slot: int
    begin: int  # of the line
    end: int  # of the slot id
    sure: bool  # brackets, or a separator after the id


# A line's start: quote marks, bullets, table bars, emoji; then perhaps a number ("1.") and a word ("Slot").
_JUNK = (
    r"^[^\w\n\[({<]{0,16}(?:\d{1,3}[.):][^\w\n\[({<]{0,8})?"
    r"(?i:(?:slot|dimension|dim|anchor|criterion)[^\S\n]+)?"
)
_BOXED = r"[\[({<][^\S\n]*[Aa][^\S\n]?0*(?P<boxed>\d{1,3})[^\S\n]*[\])}>]"
_PLAIN = r"A0*(?P<plain>\d{1,3})(?P<mark>[^\S\n]*[.:)|=—–-])?(?!\w)"
_HEAD = re.compile(rf"{_JUNK}(?:{_BOXED}|{_PLAIN})", re.MULTILINE)
_INLINE = re.compile(r"(?<=\s)\[A0*(?P<slot>\d{1,3})\]")
_INLINE_CLOSING = re.compile(r"(?<=\s)(?:overall|training recommendation|domain tag|brief)(?=:)")
_CLOSINGS = re.compile(
    r"^[^\w\n]{0,16}(?P<key>overall|(?:training[^\S\n]+)?recommendation|domain|brief)"
    r"(?:[^\S\n]+(?:score|quality|rating|tag|summary))?[^\w\n]*?[:=|—–-](?P<text>.*)$",
    re.MULTILINE | re.IGNORECASE,
)
_GAP = re.compile(r"[*_`]*[^\S\n]*\**[^\S\n]*(?:—|–|-{1,2}|:|\||,|;|\.|=)?(?:\*\*(?=\s|$))?[^\S\n]*", re.MULTILINE)
_NAME_ONLY = re.compile(r"[^\d:\n]{0,80}:?\s*")
_FIRST_WORD = re.compile(r"\S")
_QUALIFIER = re.compile(r"[^\S\n]*\([^()\n]*\)")
_MARGIN = re.compile(r"^(?:[ \t]*(?:>|[-*•+](?=[ \t])))*[ \t]*")
_REASON_WORD = re.compile(r"(?:rationale|justification|reason)\**[ \t]*:\**[ \t]*", re.IGNORECASE)


def read_reply(text: str, names: Sequence[str], *, truncated: bool) -> Reading:
    """Find every answer and closing line of `text`.

    Args:
        text: The raw reply.
        names: Dimension names in rubric order.
        truncated: The reply ended at its token limit.

    Returns:
        Answers of all slot ids, also of those the rubric does not have; positions are positions in `text`.
    """
    flat = flatten(text)
    first = _HEAD.search(flat)
    start = answer_start(flat, first.start() if first else len(flat), truncated=truncated)
    heads = _heads(flat, start)
    if len(heads) < 2 <= len(names):
        flat = _relined(flat, start, names)
        heads = _heads(flat, start)
    closings = list(_CLOSINGS.finditer(flat, start))
    answers = list(_answers(text, flat, heads, closings, names)) if heads else []
    answered = {a.slot for a in answers}
    if len(answered) < len(names):
        answers += _named_answers(text, flat, start, closings, names, answered)
    end = len(flat.rstrip())
    return Reading(answers, [_closing(text, m, end) for m in closings])


def _heads(flat: str, start: int) -> list[_Head]:
    return [
        _Head(int(m["boxed"] or m["plain"]), m.start(), m.end(), bool(m["boxed"] or m["mark"]))
        for m in _HEAD.finditer(flat, start)
    ]


def _relined(flat: str, start: int, names: Sequence[str]) -> str:
    """Give a reply whose line breaks were lost its lines back, length unchanged.

    A line starts where a slot id, that slot's own name and a score stand together, and at the closing keys after the
    last of them.
    """
    breaks, last = [], len(flat)
    for match in _INLINE.finditer(flat, start):
        named = _after_own_name(flat, int(match["slot"]), match.end(), names)
        if named is not None and score_at(flat, named, strict=False):
            breaks.append(match.start())
            last = match.start()
    breaks += [m.start() for m in _INLINE_CLOSING.finditer(flat, last)]
    pieces = [flat[i:j] for i, j in zip([0, *breaks], [*breaks, len(flat)], strict=True)]
    return "\n".join([piece[:-1] for piece in pieces[:-1]] + pieces[-1:])


def _answers(
    text: str, flat: str, heads: Sequence[_Head], closings: Sequence[re.Match[str]], names: Sequence[str]
) -> Iterator[Answer]:
    stops = sorted([h.begin for h in heads] + [m.start() for m in closings])
    length = len(flat.rstrip())
    for head in heads:
        after = bisect_right(stops, head.begin)
        stop = stops[after] if after < len(stops) else len(flat)
        answer = _answer(text, flat, head, stop, names, length)
        if answer:
            yield answer


def _answer(text: str, flat: str, head: _Head, stop: int, names: Sequence[str], length: int) -> Answer | None:
    line_end = flat.find("\n", head.end, stop)
    line_end = stop if line_end < 0 else line_end
    named = _after_own_name(flat, head.slot, head.end, names)
    found = _after_name(flat, named) if named is not None else _after_unknown_name(flat, head.end, line_end)
    if found and found.start >= line_end:
        found = None
    if not found and _NAME_ONLY.fullmatch(flat, head.end if named is None else named, line_end):
        found = _next_line(flat, line_end, stop)
    if not head.sure and (not found or (named is None and not found.explicit)):
        return None
    if not found:
        return Answer(head.slot, None, Unscored.NO_NUMBER, "", -1, -1, stop >= length, False)
    misnamed = named is None and _has_other_name(flat, head, names)
    rationale = _rationale(text, flat, found.stop, stop)
    return Answer(
        head.slot, found.value, found.reason, rationale, found.start, found.end, _is_open(found, length), misnamed
    )


def _is_open(found: Found, length: int) -> bool:
    return found.stop >= length and not (found.explicit and found.value is not None)


def _after_own_name(flat: str, slot: int, position: int, names: Sequence[str]) -> int | None:
    pattern = name_pattern(names[slot - 1]) if 1 <= slot <= len(names) else None
    match = pattern.match(flat, position) if pattern else None
    return match.end() if match else None


def _after_unknown_name(flat: str, position: int, line_end: int) -> Found | None:
    found = score_at(flat, position, strict=True) or later_score(flat, position, line_end)
    if found:
        return found
    found = score_at(flat, position, strict=False)
    return found if found and found.explicit else None


def _after_name(flat: str, position: int) -> Found | None:
    found = score_at(flat, position, strict=False)
    if found:
        return found
    qualifier = _QUALIFIER.match(flat, position)
    return score_at(flat, qualifier.end(), strict=False) if qualifier else None


def _next_line(flat: str, line_end: int, stop: int) -> Found | None:
    match = _FIRST_WORD.search(flat, line_end, stop)
    found = score_at(flat, match.start(), strict=True) if match else None
    return found if found and found.start < stop else None


def _has_other_name(flat: str, head: _Head, names: Sequence[str]) -> bool:
    for slot, name in enumerate(names, 1):
        pattern = name_pattern(name)
        if slot != head.slot and pattern and pattern.match(flat, head.end):
            return True
    return False


def _rationale(text: str, flat: str, position: int, stop: int) -> str:
    gap = _GAP.match(text, position, stop)
    position = gap.end() if gap else position
    lines: list[str] = []
    while position < stop:
        end = flat.find("\n", position, stop)
        end = stop if end < 0 else end
        plain = flat[position:end].strip()
        line = text[position:end].strip()
        if lines:
            line = line[_MARGIN.match(line).end() :]  # type: ignore[union-attr]
        if not plain or set(plain) <= set("-=|>") or (lines and plain.startswith("#")):
            if lines and lines != [""]:
                break
            line = ""
        if line or not lines:
            lines.append(line)
        position = end + 1
    return _tidy(lines)


def _tidy(lines: list[str]) -> str:
    whole = " ".join(line for line in lines if line)
    if lines and not lines[0]:
        whole = _REASON_WORD.sub("", whole, count=1) if _REASON_WORD.match(whole.lstrip("*_ ")) else whole
    whole = whole.rstrip("|").rstrip() if whole.endswith("|") else whole
    return whole[:-2].rstrip() if whole.endswith("**") and whole.count("**") % 2 else whole


@lru_cache(maxsize=64)
def _unique_names(names: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, int]] | None:
    """Return a pattern of a line that starts with a name that only one slot has, and name -> slot."""
    keys = [" ".join(flatten(n).casefold().split()) for n in names]
    slots = {k: i for i, k in enumerate(keys, 1) if k and keys.count(k) == 1}
    if not slots:
        return None
    longest_first = sorted(slots, key=len, reverse=True)
    body = "|".join(r"\s+".join(map(re.escape, key.split())) for key in longest_first)
    return re.compile(rf"{_JUNK}[\[({{<]?(?P<name>{body})(?!\w)", re.MULTILINE | re.IGNORECASE), slots


def _named_answers(
    text: str, flat: str, start: int, closings: Sequence[re.Match[str]], names: Sequence[str], answered: set[int]
) -> list[Answer]:
    """Read lines that carry a name and no slot id, for the slots that no line's id has answered."""
    unique = _unique_names(tuple(names))
    if not unique:
        return []
    pattern, slots = unique
    matches = list(pattern.finditer(flat, start))
    stops = sorted(m.start() for m in [*matches, *closings, *_HEAD.finditer(flat, start)])
    length, answers = len(flat.rstrip()), []
    for match in matches:
        slot = slots.get(" ".join(match["name"].casefold().split()))
        found = _after_name(flat, match.end())
        if slot is None or slot in answered or not found or "\n" in flat[match.end() : found.start]:
            continue
        after = bisect_right(stops, match.start())
        stop = stops[after] if after < len(stops) else len(flat)
        rationale = _rationale(text, flat, found.stop, stop)
        answers.append(
            Answer(slot, found.value, found.reason, rationale, found.start, found.end, _is_open(found, length), False)
        )
    return answers


def _closing(text: str, match: re.Match[str], length: int) -> Closing:
    key = match["key"].lower().split()[-1]
    return Closing(key, text[match.start("text") : match.end("text")].strip(), match.end() >= length)
