"""Faults that look like good text: each leaves a record well written, and wrong. All of it is ours.

A scorer that reads style, form and topic cannot see them. They are planted beside the faults of `faults.py`, so that a
user knows what a high quality does not say.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np

from mira.corpus.record import Part, Record
from mira.evaluation.family_faults import trace_steps
from mira.evaluation.mutants import mutant, python_spans
from mira.family import FamilyName

__all__ = ["NotPlanted", "SubtleFault", "spoil", "subtle_faults_of"]


class SubtleFault(StrEnum):
    """What is done to a record."""

    NEGATED = "negated"  # about half of the statements say the opposite
    OTHER_PARAGRAPHS = "other_paragraphs"  # every second paragraph is one of another record of the source
    CODE_MUTANT = "code_mutant"  # one token of the Python code is another one, and the code still parses
    NEAR_ANSWER = "near_answer"  # the answer to the most similar other question
    FALSE_SUCCESS = "false_success"  # the last call that worked fails, and the trace ends as if it had worked
    WRONG_ARGUMENT = "wrong_argument"  # one argument of a call is another value, and the result stays


class NotPlanted(StrEnum):
    """Why a record cannot have a fault. The list is closed."""

    CODE = "code"  # it is code, not prose
    FEW_STATEMENTS = "few_statements"  # fewer than two statements that a "not" would turn round
    FEW_PARAGRAPHS = "few_paragraphs"  # the record has fewer than four, or no other record has two
    NO_PYTHON = "no_python"  # no Python code that parses
    NO_MUTANT = "no_mutant"  # no change of one token parses to something else
    NO_OTHER_ANSWER = "no_other_answer"
    NO_CALL = "no_call"  # no call with a result that worked
    NO_OTHER_VALUE = "no_other_value"  # nothing to put in the place of an argument


_FAULTS_OF: dict[str, tuple[SubtleFault, ...]] = {
    FamilyName.QA: (SubtleFault.NEGATED, SubtleFault.CODE_MUTANT, SubtleFault.NEAR_ANSWER),
    FamilyName.QA_WITH_THINK: (SubtleFault.NEGATED, SubtleFault.CODE_MUTANT, SubtleFault.NEAR_ANSWER),
    FamilyName.AGENT: (SubtleFault.FALSE_SUCCESS, SubtleFault.WRONG_ARGUMENT),
}
_OF_TEXT = (SubtleFault.NEGATED, SubtleFault.OTHER_PARAGRAPHS, SubtleFault.CODE_MUTANT)

_VERB = re.compile(
    r"\b(is|are|was|were|can|could|will|would|should|must|does|has been|have been|may|might)( not\b)?(?=[ ,])"
)
_CONTRACTED = re.compile(r"\b(cannot|can't|won't|isn't|aren't|doesn't|shouldn't|wasn't|weren't)\b")
_EXPANDED = {
    "cannot": "can", "can't": "can", "won't": "will", "isn't": "is", "aren't": "are", "doesn't": "does",
    "shouldn't": "should", "wasn't": "was", "weren't": "were",
}  # fmt: skip
_FENCE_LINE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_NOT_PROSE = re.compile(r"( {4}|\t|[ \t]*(>>>|\.\.\.|\.\. |[$#@:|+=<]))")
_FEWEST_WORDS = 4
_BLANK = re.compile(r"\n[ \t]*\n")
_ARGUMENT = re.compile(r'("[\w-]+":\s*)("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false)')
_FAILED = re.compile(r"error|exception|traceback|not found|failed|no such", re.IGNORECASE)
_ERROR = '{"error": "The request could not be completed: permission denied."}'
_CLAIM = "This worked as expected, and the task is complete."
_WORD = re.compile(r"\w+")


def subtle_faults_of(family: str) -> tuple[SubtleFault, ...]:
    """Return the faults that records of a family are spoiled with; a family of a package has those of text."""
    return _FAULTS_OF.get(family, _OF_TEXT)


def spoil(record: Record, fault: SubtleFault, others: Sequence[Record], seed: int = 0) -> Record | NotPlanted:
    """Return a spoiled copy of a record, the same for the same record, fault, others and seed.

    Text is spoiled in its longest part, a question with its answer in the answer. The copy's id is "<id>~<fault>"; its
    tokens are not counted.

    Args:
        record: The record.
        fault: What to do to it, see `subtle_faults_of`.
        others: Other records of the source, the nearest ones first; some faults take a part of one.
        seed: Another seed gives another copy, where chance plays a part.

    Returns:
        The copy, or why it cannot be spoiled this way.
    """
    key = f"{seed}\x1f{record.source}\x1f{record.id}\x1f{fault}".encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big"))
    if fault in (SubtleFault.FALSE_SUCCESS, SubtleFault.WRONG_ARGUMENT):
        made = _TRACES[fault](list(record.parts), rng)
        return made if isinstance(made, NotPlanted) else _copy(record, fault, made)
    at = _place(record)
    text = _TEXTS[fault](record, record.parts[at].text, others, rng)
    if isinstance(text, NotPlanted):
        return text
    return _copy(record, fault, [replace(p, text=text) if i == at else p for i, p in enumerate(record.parts)])


def _copy(record: Record, fault: SubtleFault, parts: Sequence[Part]) -> Record:
    return replace(record, id=f"{record.id}~{fault}", parts=tuple(parts), n_tokens=0)


def _place(record: Record) -> int:
    answers = [i for i, part in enumerate(record.parts) if part.label == "Answer"]
    return answers[0] if answers else max(range(len(record.parts)), key=lambda i: len(record.parts[i].text))


def _negated(_record: Record, text: str, _others: Sequence[Record], rng: np.random.Generator) -> str | NotPlanted:
    """Turn about half of the statements round, and at least one, in lines that are prose."""
    if _is_code(text):
        return NotPlanted.CODE
    lines, fenced = text.split("\n"), False
    places: list[tuple[int, re.Match[str]]] = []
    for number, line in enumerate(lines):
        if _FENCE_LINE.match(line):
            fenced = not fenced
        elif not fenced and not _NOT_PROSE.match(line) and len(line.split()) >= _FEWEST_WORDS:
            places += [(number, m) for pattern in (_VERB, _CONTRACTED) for m in pattern.finditer(line)]
    if len(places) < 2:
        return NotPlanted.FEW_STATEMENTS
    chosen = rng.random(len(places)) < 0.5
    chosen[rng.integers(len(places))] = True
    turned = [place for place, is_one in zip(places, chosen, strict=True) if is_one]
    for number, match in sorted(turned, key=lambda place: -place[1].start()):
        lines[number] = lines[number][: match.start()] + _opposite(match) + lines[number][match.end() :]
    return "\n".join(lines)


def _opposite(match: re.Match[str]) -> str:
    if match.re is _CONTRACTED:
        return _EXPANDED[match[1]]
    return match[1] if match[2] else f"{match[1]} not"


def _is_code(text: str) -> bool:
    return (0, len(text)) in python_spans(text)


def _mixed(_record: Record, text: str, others: Sequence[Record], _rng: np.random.Generator) -> str | NotPlanted:
    """Put paragraphs of another record in the place of every second one."""
    if _is_code(text) or _FENCE_LINE.search(text):
        return NotPlanted.CODE
    own = [p for p in _BLANK.split(text) if p.strip()]
    found = ([p for p in _BLANK.split(other.parts[_place(other)].text) if p.strip()] for other in others)
    foreign = next((ps for ps in found if len(ps) > 1 and not set(ps) & set(own)), None)
    if len(own) < 4 or foreign is None:
        return NotPlanted.FEW_PARAGRAPHS
    return "\n\n".join(p if i % 2 == 0 else foreign[(i // 2) % len(foreign)] for i, p in enumerate(own))


def _mutated(_record: Record, text: str, _others: Sequence[Record], rng: np.random.Generator) -> str | NotPlanted:
    spans = python_spans(text)
    if not spans:
        return NotPlanted.NO_PYTHON
    for at in rng.permutation(len(spans)):
        start, stop = spans[at]
        made = mutant(text[start:stop], rng)
        if made is not None:
            return text[:start] + made + text[stop:]
    return NotPlanted.NO_MUTANT


def _near_answer(record: Record, text: str, others: Sequence[Record], _rng: np.random.Generator) -> str | NotPlanted:
    own = _words(_question(record))
    shared: list[tuple[float, int]] = []
    for i, other in enumerate(others):
        if other.parts[_place(other)].text.split() != text.split():
            words = _words(_question(other))
            shared.append((-len(own & words) / max(len(own | words), 1), i))
    if not shared:
        return NotPlanted.NO_OTHER_ANSWER
    nearest = others[min(shared)[1]]
    return nearest.parts[_place(nearest)].text


def _question(record: Record) -> str:
    return next((p.text for p in record.parts if p.label == "Question"), "")


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def _false_success(parts: list[Part], _rng: np.random.Generator) -> list[Part] | NotPlanted:
    """Have the last call that worked fail; what follows stays, or claims that it worked."""
    worked = [step.result for step in trace_steps(parts) if not _FAILED.search(parts[step.result].text)]
    if not worked:
        return NotPlanted.NO_CALL
    at = worked[-1]
    made = [*parts[:at], replace(parts[at], text=_ERROR), *parts[at + 1 :]]
    says = any(part.label.endswith("] assistant") and "<tool_call" not in part.text for part in parts[at + 1 :])
    return made if says else [*made, Part(f"[{sum(p.label.startswith('[') for p in made)}] assistant", _CLAIM)]


def _wrong_argument(parts: list[Part], rng: np.random.Generator) -> list[Part] | NotPlanted:
    """Give one argument of a call the value of another call's, or another number."""
    calls = [step.call for step in trace_steps(parts) if not _FAILED.search(parts[step.result].text)]
    if not calls:
        return NotPlanted.NO_CALL
    places = [(at, m) for at in calls for m in _ARGUMENT.finditer(parts[at].text, parts[at].text.find("<tool_call"))]
    for chosen in rng.permutation(len(places)):
        at, match = places[chosen]
        value = match[2]
        alike = [m[2] for i, m in places if i != at and m[2][0] == '"' == value[0] and m[2] != value]
        instead = _other_value(value) or (alike[rng.integers(len(alike))] if alike else None)
        if instead is not None:
            text = parts[at].text[: match.start(2)] + instead + parts[at].text[match.end(2) :]
            return [*parts[:at], replace(parts[at], text=text), *parts[at + 1 :]]
    return NotPlanted.NO_OTHER_VALUE


def _other_value(value: str) -> str | None:
    if value in ("true", "false"):
        return "false" if value == "true" else "true"
    if value[0] == '"' or len(value) > 15:
        return None
    return repr(float(value) + 1) if "." in value else str(int(value) + 1)


_Text = Callable[[Record, str, Sequence[Record], np.random.Generator], str | NotPlanted]
_TEXTS: dict[SubtleFault, _Text] = {
    SubtleFault.NEGATED: _negated,
    SubtleFault.OTHER_PARAGRAPHS: _mixed,
    SubtleFault.CODE_MUTANT: _mutated,
    SubtleFault.NEAR_ANSWER: _near_answer,
}
_TRACES: dict[SubtleFault, Callable[[list[Part], np.random.Generator], list[Part] | NotPlanted]] = {
    SubtleFault.FALSE_SUCCESS: _false_success,
    SubtleFault.WRONG_ARGUMENT: _wrong_argument,
}
