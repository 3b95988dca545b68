"""The tolerant reading of a reply: find the slots' lines in whatever a model wrote, and what each of them says."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from mira.corpus.thinking import CLOSES, OPENS
from mira.judging.grammar.normalise import answer_start, flatten, lines_after_thinking, name_pattern
from mira.judging.grammar.score import Found, later_score, score_at
from mira.unscored import Unscored

__all__ = ["Closing", "Reading", "SlotLine", "read_lines", "tidy"]


class SlotLine(NamedTuple):
    """What one line says of one slot.

    Attributes:
        slot: Counted from 1.
        value: In [0, 10], or None.
        reason: Why there is no value.
        rationale: "" where there is none.
        start: Where the digits start in the reply, -1 without a number.
        end: Where they end.
        open: The reply ends with this answer's number, without "/10", so that a cut may have shortened it.
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
    """A closing line.

    Attributes:
        key: overall, recommendation, domain or brief.
        text: What it says.
        last: It ends the reply.
        begin: Where it starts in the reply.
    """

    key: str
    text: str
    last: bool
    begin: int = 0


class Reading(NamedTuple):
    """All answers and closing lines of a reply, in the order in which they stand.

    `unclosed` says that they follow the start of thinking that never ends: they may be drafts.
    """

    answers: list[SlotLine]
    closings: list[Closing]
    unclosed: bool = False


class _Head(NamedTuple):
    slot: int
    begin: int  # of the line
    end: int  # of the slot id
    sure: bool  # brackets, or a separator after the id


# A line's start: quote marks, bullets, table bars, emoji; then perhaps a number ("1.") and a word ("Slot").
_JUNK = (
    r"[^\w\n\[({<]{0,16}(?:\d{1,3}[.):][^\w\n\[({<]{0,8})?"
    r"(?i:(?:slot|dimension|dim|anchor|criterion)[^\S\n]+)?"
)
_BOXED = r"[\[({<][^\S\n]*[Aa][^\S\n]?0*(?P<boxed>\d{1,3})[^\S\n]*[\])}>]"
_PLAIN = r"A0*(?P<plain>\d{1,3})(?P<mark>[^\S\n]*[.:)|=—–-])?(?!\w)"
_HEAD = re.compile(rf"{_JUNK}(?:{_BOXED}|{_PLAIN})")
_BREAK = re.compile(r"\n")
_INLINE = re.compile(r"(?<=\s)\[A0*(?P<slot>\d{1,3})\]")
_BEHIND_MARK = re.compile(r"(?<=\S)[>\]}][^\S\n]{0,3}\[A0*(?P<slot>\d{1,3})\]")
_INLINE_CLOSING = re.compile(r"(?<=\s)(?:overall|training recommendation|domain tag|brief)(?=:)")
_CLOSING = re.compile(
    r"[^\w\n]{0,16}(?P<key>overall|(?:training[^\S\n]+)?recommendation|domain|brief)"
    r"(?:[^\S\n]+(?:score|quality|rating|tag|summary))?[^\w\n]*?[:=|—–-](?P<text>.*)",
    re.IGNORECASE,
)
_WRAPPER = re.compile(r"\s*<([^\s<>/|]{1,40})>")
_GAP = re.compile(r"[*_`]*[^\S\n]*\**[^\S\n]*(?:[—–:：|｜,;.=]|--?)?(?:\*\*(?=\s|$))?[^\S\n]*", re.MULTILINE)
_NAME_ONLY = re.compile(r"[^\d:\n]{0,80}:?\s*")
_NAME_GOES_ON = re.compile(r"[^\S\n]+[^\W\d]")  # "Foo of the code: 8/10" for "Foo"
_NOTHING_MORE = re.compile(r"\W*\Z")
_FIRST_WORD = re.compile(r"\S")
_QUALIFIER = re.compile(r"[^\S\n]*\([^()\n]*\)")
_MARGIN = re.compile(r"^(?:[ \t]*(?:>|[-*•+](?=[ \t])))*[ \t]*")
_REASON_WORD = re.compile(r"\A[*_]*(?:rationale|justification|reason)\**[ \t]*:\**[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Page:
    """A reply under reading.

    Attributes:
        text: The raw reply.
        flat: The same, flattened.
        names: Dimension names in rubric order.
        start: Where the answer starts.
        length: Where its last visible character ends.
        stops: Where lines of slots and closing lines start, ascending.
    """

    text: str
    flat: str
    names: Sequence[str]
    start: int
    length: int
    stops: Sequence[int]

    def stop(self, begin: int) -> int:
        """Return where the block that starts at `begin` ends."""
        after = bisect_right(self.stops, begin)
        return self.stops[after] if after < len(self.stops) else len(self.flat)


def read_lines(text: str, names: Sequence[str], *, truncated: bool) -> Reading:
    """Find every answer and closing line of `text`.

    Args:
        text: The raw reply.
        names: Dimension names in rubric order.
        truncated: The reply ended at its token limit.

    Returns:
        Answers of all slot ids, also of those the rubric does not have; positions are positions in `text`.
    """
    flat = flatten(text)
    start, unclosed = _start(text, flat, names, truncated=truncated)
    if start:  # an answer may stand right behind the thinking's last tag
        flat = f"{flat[: start - 1]}\n{flat[start:]}"
    flat = _after_marks(flat, start, names)
    heads, closings = _marks(flat, start)
    if len(heads) < 2 <= len(names):
        flat = _relined(flat, start, names)
        heads, closings = _marks(flat, start)
    stops = sorted([h.begin for h in heads] + [m.start() for m in closings])
    page = _Page(text, flat, names, start, len(flat.rstrip()), stops)
    answers = [a for a in (_answer(page, head) for head in heads) if a]
    answered = {a.slot for a in answers}
    if any(slot not in answered for slot in range(1, len(names) + 1)):
        answers += _named_answers(page, answered)
    return Reading(answers, [_closing(page, match) for match in closings], unclosed)


def _start(text: str, flat: str, names: Sequence[str], *, truncated: bool) -> tuple[int, bool]:
    """Return where the answer starts, and whether thinking was opened and not closed."""
    start, unclosed = 0, False
    if CLOSES.search(flat) or OPENS.search(flat):
        marked = lines_after_thinking(flat)
        # Behind a marker on the same line only a slot with its own name counts: a rationale may speak of markers.
        heads = [
            head
            for head in _marks(marked, 0)[0]
            if not head.begin
            or flat[head.begin - 1] == "\n"
            or _after_own_name(flat, head.slot, head.end, names) is not None
        ]
        page = _Page(text, marked, names, 0, len(flat.rstrip()), [h.begin for h in heads])
        scored = [(h.begin, h.slot) for h in heads if (a := _answer(page, h)) and a.start >= 0]
        start, unclosed = answer_start(flat, scored, truncated=truncated)
    wrapper = _WRAPPER.match(flat, start)
    if wrapper and not unclosed:  # a tag that mira does not know is thinking where an answer follows its end
        close = f"</{wrapper[1]}>"
        end = flat.rfind(close, wrapper.end())
        rest = end + len(close)
        if end >= 0 and _marks(f"{flat[: rest - 1]}\n{flat[rest:]}", rest)[0]:
            return rest, False
    return start, unclosed


def _marks(flat: str, start: int) -> tuple[list[_Head], list[re.Match[str]]]:
    """Return the heads of slots' lines and the closing lines, from the line that starts at `start`."""
    heads, closings = [], []
    # Line by line: a search would try the patterns at every character.
    for begin in [start, *(match.end() for match in _BREAK.finditer(flat, start))]:
        if head := _HEAD.match(flat, begin):
            mark = head["boxed"] or head["mark"]
            heads.append(_Head(int(head["boxed"] or head["plain"]), begin, head.end(), bool(mark)))
        elif closing := _CLOSING.match(flat, begin):
            closings.append(closing)
    return heads, closings


def _after_marks(flat: str, start: int, names: Sequence[str]) -> str:
    """Give a slot that follows a tag or marker of any kind on its line a line of its own, length unchanged."""
    breaks = [
        match.start()
        for match in _BEHIND_MARK.finditer(flat, start)
        if (named := _after_own_name(flat, int(match["slot"]), match.end(), names)) is not None
        and score_at(flat, named, strict=False)
    ]
    pieces = [flat[i:j] for i, j in pairwise([0, *(at + 1 for at in breaks), len(flat)])]
    return "\n".join([piece[:-1] for piece in pieces[:-1]] + pieces[-1:])


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
    pieces = [flat[i:j] for i, j in pairwise([0, *breaks, len(flat)])]
    return "\n".join([piece[:-1] for piece in pieces[:-1]] + pieces[-1:])


def _answer(page: _Page, head: _Head) -> SlotLine | None:
    flat, stop = page.flat, page.stop(head.begin)
    line_end = flat.find("\n", head.end, stop)
    line_end = stop if line_end < 0 else line_end
    named = _after_own_name(flat, head.slot, head.end, page.names)
    if named is None:
        found = _after_unknown_name(flat, head.end, line_end)
    else:
        found = _after_name(flat, named)
        if not found and _NAME_GOES_ON.match(flat, named):
            found = later_score(flat, named, line_end)
    if found and found.start >= line_end:
        found = None
    if not found and _NAME_ONLY.fullmatch(flat, head.end if named is None else named, line_end):
        found = _next_line(flat, line_end, stop)
    if not head.sure and (not found or (named is None and not found.explicit)):
        return None
    if not found:
        return SlotLine(head.slot, None, Unscored.NO_NUMBER, "", -1, -1, stop >= page.length, False)
    misnamed = named is None and _has_other_name(flat, head, page.names)
    return _answer_of(page, head.slot, found, stop, misnamed=misnamed)


def _answer_of(page: _Page, slot: int, found: Found, stop: int, *, misnamed: bool) -> SlotLine:
    whole = found.explicit and found.value is not None
    is_open = not whole and bool(_NOTHING_MORE.match(page.flat, found.stop))
    rationale = _rationale(page, found.stop, stop)
    return SlotLine(slot, found.value, found.reason, rationale, found.start, found.end, is_open, misnamed)


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


def _rationale(page: _Page, position: int, stop: int) -> str:
    """Return the text after a score, with the lines on which it goes on, up to a blank line, a rule or a heading."""
    gap = _GAP.match(page.text, position, stop)
    position = gap.end() if gap else position
    lines: list[str] = []
    while position < stop:
        end = page.flat.find("\n", position, stop)
        end = stop if end < 0 else end
        plain, line = page.flat[position:end].strip(), page.text[position:end].strip()
        ends = not plain.strip("-=|>") or (lines and plain.startswith("#"))
        if ends and any(lines):
            break
        lines.append("" if ends else _MARGIN.sub("", line) if lines else line)
        position = end + 1
    return tidy(lines)


def tidy(lines: list[str]) -> str:
    """Return a rationale's lines as one, without what belongs to a table's or a bold line's end."""
    whole = " ".join(filter(None, lines))
    if lines and not lines[0]:
        whole = _REASON_WORD.sub("", whole)
    if whole.endswith("|"):
        whole = whole.rstrip("|").rstrip()
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
    return re.compile(rf"^{_JUNK}[\[({{<]?(?P<name>{body})(?!\w)", re.MULTILINE | re.IGNORECASE), slots


def _named_answers(page: _Page, answered: set[int]) -> list[SlotLine]:
    """Read lines that carry a name and no slot id, for the slots that no line's id has answered."""
    unique = _unique_names(tuple(page.names))
    if not unique:
        return []
    pattern, slots = unique
    matches = list(pattern.finditer(page.flat, page.start))
    page = replace(page, stops=sorted([m.start() for m in matches] + list(page.stops)))
    answers = []
    for match in matches:
        slot = slots.get(" ".join(match["name"].casefold().split()))
        found = _after_name(page.flat, match.end())
        if slot is not None and slot not in answered and found and "\n" not in page.flat[match.end() : found.start]:
            answers.append(_answer_of(page, slot, found, page.stop(match.start()), misnamed=False))
    return answers


def _closing(page: _Page, match: re.Match[str]) -> Closing:
    key = match["key"].lower().split()[-1]
    text = page.text[match.start("text") : match.end("text")].strip()
    return Closing(key, text, match.end() >= page.length, match.start())
