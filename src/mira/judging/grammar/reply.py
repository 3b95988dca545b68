r"""The reply grammar of the model card, and its total parser.

One line a slot, then four closing lines::

    [A1] Analytical Depth: 7.5/10 — Weighs two designs and says why one lost.
    ...
    overall: 71
    training_recommendation: keep
    domain_tag: web-framework
    brief: A design note on request handling.

A reply in exactly this form, whatever the order of its slots, takes the fast path; a complete one in the usual Markdown
takes the path of `_usual`. Anything else is read tolerantly: see `parse_reply`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from mira.judging.grammar.common import read_common
from mira.judging.grammar.normalise import ends_thinking, flatten, without_echo
from mira.judging.grammar.tolerant import Closing, Reading, SlotLine, read_lines
from mira.rubric.judgement import Judgement, Recommendation
from mira.rubric.slots import slot_names
from mira.unscored import Unscored

__all__ = ["ParsedReply", "locate_scores", "parse_reply", "whole_reply"]


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What a reply says.

    Attributes:
        scores: One score in [0, 10] or None a slot, in rubric order.
        rationales: One rationale a slot, "" where there is none.
        missing: Slot ("A3") -> why its score is missing.
        overall: 0-100, or None.
        recommendation: The judge's verdict, or None.
        domain_tag: "" when absent.
        brief: "" when absent.
        reason_unscored: Set when no slot is scored at all.
        notes: What the parser passed over: "overall:<why>" and "recommendation:<why>" where these are None,
            "ignored:A17" for a slot that the rubric does not have, "misnamed:A3" for a line that carries the name of
            another slot than its id says.
    """

    scores: tuple[float | None, ...]
    rationales: tuple[str, ...]
    missing: dict[str, Unscored] = field(default_factory=dict)
    overall: float | None = None
    recommendation: Recommendation | None = None
    domain_tag: str = ""
    brief: str = ""
    reason_unscored: Unscored | None = None
    notes: tuple[str, ...] = ()

    def judgement(
        self, id: str, source: str, *, replicate: int = 0, judge: str = "", notes: Iterable[str] = ()
    ) -> Judgement:
        """Return the judgement of record `id` that this reply makes; `notes` come before the parser's own."""
        return Judgement(
            id=id, source=source, scores=self.scores, rationales=self.rationales, missing=self.missing,
            overall=self.overall, recommendation=self.recommendation, domain_tag=self.domain_tag, brief=self.brief,
            reason_unscored=self.reason_unscored, replicate=replicate, judge=judge, notes=(*notes, *self.notes),
        )  # fmt: skip


def parse_reply(text: str, names: Sequence[str], *, truncated: bool = False) -> ParsedReply:
    """Read a judge's reply. Never raises, whatever the text.

    A slot is known by its id; the dimension's name beside it may differ, and stands for the id only where no line
    carries the id and no other slot has the name. Tolerated are dashes, colons, bars and Markdown around the parts,
    `8/10`, `8.5 / 10`, `8 out of 10`, a bare `8`, any order of slots, thinking before the answer, text around it, and
    rationales that go on over the next lines. No number of a name or of a rationale is ever taken for a score.

    Refused, with the reason in `missing`: a score outside [0, 10] or not out of 10, a range or a choice ("7-8/10"),
    a slot answered twice with different scores, a line without a number, and a number without "/10" that ends the
    reply, for it may be the start of another one. Of several complete answers the last one counts. What a reply
    repeats of the record, between the fence's marks, is not read.

    Args:
        text: The reply as it came.
        names: Dimension names in rubric order; their number is the number of slots.
        truncated: The reply ended at its token limit. Slots after the cut are missing as `truncated`.

    Returns:
        The scores that are there, and for every other slot the reason.
    """
    text = without_echo(text)
    return whole_reply(text, names) or _tolerant(text, names, truncated=truncated)


def whole_reply(text: str, names: Sequence[str]) -> ParsedReply | None:
    """Read a reply that is nothing but the complete form, in the card's words or the usual Markdown; else None."""
    slots = tuple(names)
    answer = _unwrapped(text)
    if ends_thinking(answer):  # a rationale may speak of a marker, or an answer may follow it: read with care
        return None
    return _strict(answer, slots) or _usual(answer, slots)


def locate_scores(text: str, names: Sequence[str], *, truncated: bool = False) -> list[tuple[int, int] | None]:
    """Return where in `text` each slot's digits stand (start, end); None for a slot that `parse_reply` does not score.

    Args:
        text: The reply as it came.
        names: Dimension names in rubric order.
        truncated: The reply ended at its token limit.
    """
    answers, _ = _settled(read_lines(without_echo(text), names, truncated=truncated), len(names), truncated=truncated)
    chosen = _choose_all(answers, len(names), truncated=truncated)
    places: list[tuple[int, int] | None] = []
    for slot, (value, _, _) in enumerate(chosen, 1):
        own = [a for a in answers if a.slot == slot]
        places.append(next(((a.start, a.end) for a in own if a.value == value), None) if value is not None else None)
    return places


_SCORES = {str(i): float(i) for i in range(11)} | {f"{i / 10:.1f}": i / 10 for i in range(101)}
_OVERALLS = {str(i): float(i) for i in range(101)}
_RECOMMENDATIONS = {r.value: r for r in Recommendation}


@lru_cache(maxsize=64)
def _heads(names: tuple[str, ...]) -> dict[str, tuple[int, str, int]]:
    """Return slot id in brackets -> position of the slot, how its line starts, and the length of that."""
    heads = {f"[{slot}]": f"[{slot}] {name}: " for slot, name in zip(slot_names(len(names)), names, strict=True)}
    return {slot: (i, head, len(head)) for i, (slot, head) in enumerate(heads.items())}


def _strict(text: str, names: tuple[str, ...]) -> ParsedReply | None:
    """Read a reply that is exactly in the card's form, its slots in any order; None for any other reply."""
    lines = text.rstrip().splitlines()
    n = len(names)
    if len(lines) != n + 4:
        return None
    heads = _heads(names)
    scores: list[float | None] = [None] * n
    rationales = [""] * n
    for line in lines[:n]:
        slot, head, length = heads.get(line[: line.find("]") + 1], _NO_HEAD)
        if not line.startswith(head) or scores[slot] is not None:
            return None
        number, _, rationale = line[length:].partition("/10")
        value = _SCORES.get(number)
        if value is None or not (rationale.startswith(" — ") or _DASH.match(rationale)):
            return None
        scores[slot] = value
        rationales[slot] = rationale[3:].strip()
    keys, values = zip(*(line.partition(": ")[::2] for line in lines[n:]), strict=True)
    overall, recommendation = _OVERALLS.get(values[0]), _RECOMMENDATIONS.get(values[1])
    if keys != _KEYS or overall is None or recommendation is None:
        return None
    return ParsedReply(
        tuple(scores), tuple(rationales), {}, overall, recommendation, values[2].strip(), values[3].strip()
    )


_NO_HEAD = (0, "\n", 0)  # no line starts with a line break
_DASH = re.compile(r" [–-] (?![\s\d.])")  # before a number it may be a range's
_KEYS = ("overall", "training_recommendation", "domain_tag", "brief")


def _unwrapped(text: str) -> str:
    """Return a reply without one block of thinking before it and without a code fence around it."""
    if text.startswith("<think>") and text.count("</think>") == 1:
        text = text[text.index("</think>") + 8 :].lstrip()
    if text.startswith("```") and text.rstrip().endswith("\n```"):
        text = text[text.find("\n") + 1 :].rstrip()[:-3]
    return text


def _usual(text: str, names: tuple[str, ...]) -> ParsedReply | None:
    """Read a reply that is complete and written as most models do; None for any other reply."""
    said = read_common(text, names)
    if not said:
        return None
    overall, _ = _overall(said.closings)
    recommendation, _ = _recommendation(said.closings)
    if overall is None or recommendation is None:
        return None
    return ParsedReply(
        tuple(map(_SCORES.__getitem__, said.numbers)), said.rationales, {}, overall, recommendation,
        _text(said.closings, "domain"), _text(said.closings, "brief"),
    )  # fmt: skip


def _tolerant(text: str, names: Sequence[str], *, truncated: bool) -> ParsedReply:
    answers, closings = _settled(read_lines(text, names, truncated=truncated), len(names), truncated=truncated)
    by_slot: dict[int, list[SlotLine]] = {}
    for answer in answers:
        by_slot.setdefault(answer.slot, []).append(answer)
    slots = slot_names(len(names))
    chosen = _choose_all(answers, len(names), truncated=truncated)
    absent = _absent_reasons(answers, len(names), truncated=truncated)
    missing = {
        slot: why
        for i, (slot, (value, _, reason)) in enumerate(zip(slots, chosen, strict=True), 1)
        if value is None and (why := reason or absent[i])
    }
    scores = tuple(value for value, _, _ in chosen)
    unscored = None
    if len(missing) == len(names):
        unscored = _why_unscored(text, answers, missing, truncated=truncated)
        if not answers:
            missing = dict.fromkeys(slots, unscored)
    notes = [f"ignored:A{i}" for i in sorted(by_slot) if not 1 <= i <= len(names)]
    notes += [f"misnamed:{slots[a.slot - 1]}" for a in answers if a.misnamed and a.slot <= len(names)]
    overall, overall_note = _overall(closings)
    recommendation, recommendation_note = _recommendation(closings)
    return ParsedReply(
        scores=scores, rationales=tuple(rationale for _, rationale, _ in chosen), missing=missing, overall=overall,
        recommendation=recommendation, domain_tag=_text(closings, "domain"), brief=_text(closings, "brief"),
        reason_unscored=unscored, notes=tuple(dict.fromkeys((*notes, *overall_note, *recommendation_note))),
    )  # fmt: skip


def _settled(reading: Reading, n: int, *, truncated: bool) -> tuple[list[SlotLine], list[Closing]]:
    """Return answers and closing lines from the last complete answer on, which says every slot once; else all.

    What follows thinking that never ends is believed only where it holds a complete answer.
    """
    answers, closings, unclosed = reading
    # Without "/10" the last number may be the start of a longer one, whatever the server says of the reply's end.
    answers = [
        a._replace(value=None, reason=Unscored.TRUNCATED) if a.open and (truncated or a.value is not None) else a
        for a in answers
    ]
    said = [a for a in answers if a.reason is not Unscored.NO_NUMBER and 1 <= a.slot <= n]
    if len(said) <= n and not unclosed:
        return answers, closings
    said.sort(key=lambda a: a.start)
    counts: Counter[int] = Counter()
    for begin in range(len(said) - 1, -1, -1):
        counts[said[begin].slot] += 1
        if begin + n < len(said):
            left = said[begin + n].slot
            counts[left] -= 1
            if not counts[left]:
                del counts[left]
        if len(counts) == n:
            later = [c for c in closings if c.begin > said[begin].start]
            if unclosed and not any(c.key == "overall" for c in later):
                break
            return said[begin:], later
    return ([], []) if unclosed else (answers, closings)


_Chosen = tuple[float | None, str, Unscored | None]


def _choose_all(answers: list[SlotLine], n: int, *, truncated: bool) -> list[_Chosen]:
    """Return one score, or a reason, a slot; see `_choose`.

    Where several slots have two different scores, or one has in a reply that was cut, these are two answers, and a slot
    that only one of them scores has no score: it may be a draft's.
    """
    own: list[list[SlotLine]] = [[] for _ in range(n)]
    for answer in answers:
        if 1 <= answer.slot <= n:
            own[answer.slot - 1].append(answer)
    chosen = [_choose(of_slot) for of_slot in own]
    differ = sum(len({a.value for a in of_slot if a.value is not None}) > 1 for of_slot in own)
    if differ < (1 if truncated else 2):
        return chosen
    return [
        (None, why, Unscored.AMBIGUOUS) if value is not None and len(of_slot) == 1 else (value, why, reason)
        for of_slot, (value, why, reason) in zip(own, chosen, strict=True)
    ]


def _choose(answers: list[SlotLine]) -> _Chosen:
    """Return the one score that a slot's answers agree on, with its rationale; or None and why, if there are any."""
    if len(answers) == 1:
        return answers[0].value, answers[0].rationale, answers[0].reason
    said = [a for a in answers if a.reason is not Unscored.NO_NUMBER]
    if not said:
        return None, "", answers[0].reason if answers else None
    if len({(a.value, a.reason) for a in said}) > 1:
        return None, said[0].rationale, Unscored.AMBIGUOUS
    return said[0].value, max((a.rationale for a in said), key=len), said[0].reason


def _absent_reasons(answers: list[SlotLine], n: int, *, truncated: bool) -> dict[int, Unscored]:
    """Return, for every slot, why it would be missing if no line spoke of it.

    Where the slots that are there ascend, one below the last of them was left out; the cut took those above.
    """
    order = [a.slot for a in answers]
    last = max(order, default=0) if order == sorted(order) else 0
    return {i: Unscored.TRUNCATED if truncated and i > last else Unscored.MISSING_SLOT for i in range(1, n + 1)}


_REFUSAL = re.compile(
    r"\W*(?:i['’]?m\s+(?:very\s+|really\s+)?sorry|(?:i\s+am\s+)?sorry\b|i\s+apologi[sz]e|(?:i|we)\s+(?:can\s?not|can['’]t|won['’]t|"
    r"will\s+not|must\s+decline|am\s+(?:unable|not\s+able)|do\s+not|don['’]t\s+feel)|i['’]m\s+(?:unable|not\s+able)|"
    r"as\s+an\s+ai\b|unfortunately,?\s+i\b|抱歉|对不起|很抱歉|非常抱歉|我无法|我不能)",
    re.IGNORECASE,
)
_REFUSAL_CHARS = 1000  # a longer text that opens like a refusal has something else to say


def _why_unscored(text: str, answers: list[SlotLine], missing: dict[str, Unscored], *, truncated: bool) -> Unscored:
    if answers:
        reasons = set(missing.values())
        return reasons.pop() if len(reasons) == 1 else Unscored.UNPARSABLE
    if truncated:
        return Unscored.TRUNCATED
    if len(text) <= _REFUSAL_CHARS and _REFUSAL.match(text):
        return Unscored.REFUSED
    return Unscored.UNPARSABLE


_PERCENT = re.compile(
    r"[^\w\n.+−-]*(?P<sign>[+−-]?)(?P<number>\d++(?:\.\d++)?+)(?P<range>\s*(?:[-–—]|to\b|or\b)\s*\d[\d.]*+)?+"
    r"(?:\s*(?:/|out\s+of)\s*(?P<whole>\d++(?:\.\d++)?+))?+(?![\w/]|\.\d)"
)


def _overall(closings: list[Closing]) -> tuple[float | None, list[str]]:
    """Return the overall score in [0, 100], or None and a note."""
    found: set[float] = set()
    why = "missing"
    for closing in closings:
        if closing.key != "overall":
            continue
        match = _PERCENT.match(flatten(closing.text))
        if not match:
            why = "no_number"
        elif match["range"]:
            why = "ambiguous"
        elif closing.last and not match["whole"]:
            why = "truncated"
        elif match["sign"] in ("-", "−") or float(match["whole"] or 100) != 100 or float(match["number"]) > 100:
            why = "out_of_range"
        else:
            found.add(float(match["number"]))
    if len(found) == 1:
        return found.pop(), []
    return None, [f"overall:{'ambiguous' if found else why}"]


_VERDICT = re.compile(
    r"[^\w\n]*(keep|down[- ]?sample|drop)(?!\w)(?:\s*(?:[|/,]|\bor\b)\s*[^\w\n]*(keep|down[- ]?sample|drop)(?!\w))?",
    re.IGNORECASE,
)


def _recommendation(closings: list[Closing]) -> tuple[Recommendation | None, list[str]]:
    """Return the verdict, or None and a note."""
    found: set[str] = set()
    why = "missing"
    for closing in closings:
        if closing.key != "recommendation":
            continue
        match = _VERDICT.match(flatten(closing.text))
        if not match:
            why = "unknown"
        elif match[2]:
            why = "ambiguous"
        else:
            found.add(re.sub("[- ]", "", match[1].lower()))
    if len(found) == 1:
        return Recommendation(found.pop()), []
    return None, [f"recommendation:{'ambiguous' if found else why}"]


def _text(closings: list[Closing], key: str) -> str:
    """Return the first text under `key`, without Markdown around it and without an echo of the template."""
    texts = (_unwrap(c.text) for c in closings if c.key == key)
    return next((t for t in texts if t and not (t.startswith("<") and t.endswith(">"))), "")


def _unwrap(text: str) -> str:
    if text.startswith("**") and text.count("**") % 2:  # the bold of the key ends after the colon
        text = text[2:].lstrip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in '*_`"':
        text = text[1:-1].strip()
    return text
