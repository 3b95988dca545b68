"""One score in flattened text: what counts as the number of a slot, and what is refused."""

import re
from typing import NamedTuple

from mira.unscored import Unscored

__all__ = ["Found", "later_score", "score_at"]


class Found(NamedTuple):
    """A score, or why it is missing.

    Attributes:
        value: In [0, 10], or None.
        reason: Why there is no value; None with a value.
        start: Where the digits start.
        end: Where the digits end.
        stop: Where the score's expression ("8/10", "8 out of 10", "(8)") ends.
        explicit: The score says that it is out of 10.
    """

    value: float | None
    reason: Unscored | None
    start: int
    end: int
    stop: int
    explicit: bool = False


_NUMBER = r"(?P<number>(?<![\d.,])\d+(?:\.\d+|,\d{1,2}(?!\d))?|(?<![\w.,)])\.\d+)"
# Scores as most models write them: what the patterns below would make of them, in one step. No digit may follow, for it
# could be the other end of a range.
_USUAL = re.compile(
    r"[ :—–-]{0,8}(?<=[ :—])(?P<number>10|\d(?:\.\d)?)(?P<ten> ?/ ?10)?(?= {0,3}(?:\n|[—–:-] {1,3}[^\W\d]))"
)
_FIRST = re.compile(rf"(?P<lead>[^\w\n]*?)(?:(?:score|rating)\b(?P<more>[^\w\n]*?))?{_NUMBER}", re.IGNORECASE)
_LATER = re.compile(r"[:|=—–]|-(?=\s)|[(\[](?=[^\S\n]*\d)")
_OUT_OF = re.compile(
    r"[^\S\n]*[\])}>]?[^\S\n]*(?P<by>/|\bout\s+of\b)[^\S\n]*(?P<whole>\d+(?:[.,]\d+)?)(?![\w])", re.IGNORECASE
)
_RANGE = re.compile(
    r"[^\S\n]*(?:(?:-|–|~|,?[^\S\n]*\b(?:to|or|and)\b|→|->|=>)[^\S\n]*\.?\d|/[^\S\n]*\d|of\b)", re.IGNORECASE
)
_TIGHT_RANGE = re.compile(r"(?:[-–~]\d|[^\S\n]*(?:,?[^\S\n]*\b(?:to|or)\b|→|->|=>|/)[^\S\n]*\d|[^\S\n]+of\b)", re.I)
_SECOND = re.compile(r"[^\S\n]*[-–:][^\S\n]*\d+(?:[.,]\d+)?[^\S\n]*(?:/[^\S\n]*10|out\s+of\s+10)(?!\w)", re.IGNORECASE)
_SECOND_OF_BARE = re.compile(_SECOND.pattern.replace("[-–:]", "[-–—:]"), re.IGNORECASE)
_FOLLOW = re.compile(r"[^\S\n]*(?:$|[—–:|;)\]}>(\"'”’]|-+(?:\s|$)|[.,](?!\d))", re.MULTILINE)
_CLOSING = re.compile(r"[^\S\n]*[)\]}>]")
_SEPARATORS = frozenset(":|=—–")
# What may stand right before the digits. Anything else ("$8", "#8") makes the number something other than a score.
_BEFORE = frozenset(" \t:|=—([{<\"'“‘~≈,.;])}+>")


def score_at(flat: str, position: int, *, strict: bool) -> Found | None:
    """Read the score that stands at `position`, after punctuation and perhaps the word "score".

    Args:
        flat: Flattened reply.
        position: After the slot's name.
        strict: Demand a separator or the line's end after the score, for places where a name or prose may go on.

    Returns:
        The score, or a refusal, or None when no number stands here.
    """
    usual = _USUAL.match(flat, position)
    if usual:
        start, end = usual.span("number")
        return Found(float(usual["number"]), None, start, end, usual.end(), explicit=usual["ten"] is not None)
    match = _FIRST.match(flat, position)
    if not match:
        return None
    lead = match["lead"] + (match["more"] or "")
    start, end = match.span("number")
    value = float(match["number"].replace(",", "."))
    refused = _refused_by_lead(lead)
    if refused is Unscored.NO_NUMBER:
        return None
    denominator = _OUT_OF.match(flat, end)
    if denominator:
        found = _fraction(flat, value, start, end, denominator, strict=strict)
    else:
        found = _bare(flat, match["number"], value, start, end)
    if found is None or found.value is None:
        return found
    if lead.endswith("<") and ">" not in flat[end : found.stop + 2]:
        return None
    return found._replace(value=None, reason=refused) if refused else found


def later_score(flat: str, position: int, stop: int) -> Found | None:
    """Read the first score that follows a separator between `position` and `stop`: the name before it is unknown.

    Only the first separator may be followed by a bare number; after it a score must say "/10". A name is short and
    holds no full stop: what comes after one is prose, whose numbers are nobody's score.
    """
    after_separator = False
    for mark in _LATER.finditer(flat, position, stop):
        between = flat[position : mark.start()]
        if len(between) > 100 or re.search(r"[.;!?]\s", between):
            return None
        bracket = mark[0] in "(["
        found = score_at(flat, mark.start(), strict=bracket or after_separator)
        if found and found.start >= stop:
            return None
        if found and (found.explicit or not (bracket or after_separator)):
            return found
        after_separator = after_separator or not bracket
    return None


def _refused_by_lead(lead: str) -> Unscored | None:
    """Say what the punctuation before the digits makes of them: a negative number, no score at all, or a score."""
    if not lead or lead[-1] in _BEFORE:
        return None
    if lead[-1] == "−":
        return Unscored.OUT_OF_RANGE
    if lead[-1] not in "-–":
        return Unscored.NO_NUMBER
    rest = lead.rstrip("-–")
    if _SEPARATORS & set(rest):
        return Unscored.OUT_OF_RANGE
    # "Name-8/10" is a separator; "Name -8/10" may be one or a minus.
    return Unscored.AMBIGUOUS if lead[-1] == "-" and rest[-1:].isspace() else None


def _fraction(
    flat: str, value: float, start: int, end: int, denominator: re.Match[str], *, strict: bool
) -> Found | None:
    stop = denominator.end()
    if _TIGHT_RANGE.match(flat, stop) or _SECOND.match(flat, stop):
        return Found(None, Unscored.AMBIGUOUS, start, end, stop)
    if (strict or denominator["by"] != "/") and not _FOLLOW.match(flat, stop):
        return None
    if float(denominator["whole"].replace(",", ".")) != 10 or value > 10:
        return Found(None, Unscored.OUT_OF_RANGE, start, end, stop, explicit=True)
    closing = _CLOSING.match(flat, stop)
    return Found(value, None, start, end, closing.end() if closing else stop, explicit=True)


def _bare(flat: str, digits: str, value: float, start: int, end: int) -> Found | None:
    if _RANGE.match(flat, end) or _SECOND_OF_BARE.match(flat, end) or "," in digits:
        return Found(None, Unscored.AMBIGUOUS, start, end, end)
    if not _FOLLOW.match(flat, end):
        return None
    closing = _CLOSING.match(flat, end)
    stop = closing.end() if closing else end
    if value > 10:
        return Found(None, Unscored.OUT_OF_RANGE, start, end, stop)
    return Found(value, None, start, end, stop)
