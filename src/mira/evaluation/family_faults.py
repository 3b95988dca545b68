"""Known ways to spoil a question with its answer, or an agent's trace: each leaves every part well written.

What is wrong stands between the parts: an answer to another question, a result that no longer fits its call. All of it
is ours.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np

from mira.corpus.families import Spoil
from mira.corpus.record import Part, Record

__all__ = ["AGENT_FAULTS", "QA_FAULTS", "AgentFault", "QaFault", "Step", "trace_steps"]


class QaFault(StrEnum):
    """What is done to the answer of a question."""

    OTHER_ANSWER = "other_answer"  # the answer to another question of the source
    ANSWER_CUT = "answer_cut"  # ends in mid-word after a third
    QUESTION_REPEATED = "question_repeated"  # the question stands where the answer stood
    WRONG_CODE = "wrong_code"  # the prose stays; comparisons, constants and signs of the code are turned round


class AgentFault(StrEnum):
    """What is done to the calls of a trace."""

    CALL_DROPPED = "call_dropped"  # a call and its result are left out
    RESULTS_SWAPPED = "results_swapped"  # two calls have each other's result
    ERROR_IGNORED = "error_ignored"  # a result becomes an error, and the trace goes on as if it had not
    LOOP = "loop"  # a call with its result stands there four times
    SUCCESS_CLAIMED = "success_claimed"  # the last call gives way to a message that claims it was made


_FENCED = re.compile(r"(```|~~~)[^\n]*\n(.*?)\1", re.DOTALL)
_TURNED = {
    "==": "!=", "!=": "==", "<=": ">", ">=": "<", " < ": " >= ", " > ": " <= ", " + ": " - ", " - ": " + ",
    " and ": " or ", " or ": " and ", " not in ": " in ", " in ": " not in ", " is not ": " is ", "True": "False",
    "False": "True", "[0]": "[-1]", "[-1]": "[0]", "+=": "-=", "if not ": "if ", " * ": " / ",
}  # fmt: skip
_TURN = re.compile("|".join(re.escape(t) for t in sorted(_TURNED, key=lambda t: -len(t))))
_ERROR = '{"error": "The request could not be completed: no such resource."}'
_CLAIM = "Done. I have completed this step successfully, and everything works as requested."
_LABEL = re.compile(r"\[\d+\] ")
_LOOPS = 3


def _spoil_pair(record: Record, fault: QaFault, rng: np.random.Generator, other: Record | None) -> list[Part] | None:
    """Return the parts of a record of family qa or qa_with_think with a spoiled answer; None where it cannot be done.

    Args:
        record: The record.
        fault: What to do.
        rng: Chance.
        other: Another record of the source, whose answer may stand in.
    """
    texts = {part.label: part.text for part in record.parts}
    answer = _answer(fault, texts["Question"], texts["Answer"], rng, _text_of(other, "Answer"))
    if answer is None or answer.split() == texts["Answer"].split():
        return None
    return [replace(p, text=answer) if p.label == "Answer" else p for p in record.parts]


def _text_of(record: Record | None, label: str) -> str | None:
    return next((p.text for p in record.parts if p.label == label), None) if record else None


def _answer(fault: QaFault, question: str, answer: str, rng: np.random.Generator, other: str | None) -> str | None:
    match fault:
        case QaFault.OTHER_ANSWER:
            return other
        case QaFault.QUESTION_REPEATED:
            return question
        case QaFault.ANSWER_CUT:
            stop = len(answer) // 3
            while stop > 1 and not (answer[stop - 1].isalnum() and answer[stop].isalnum()):
                stop -= 1
            return answer[:stop] if stop > 1 else None
        case QaFault.WRONG_CODE:
            return _FENCED.sub(lambda m: m[0].replace(m[2], _turned(m[2], rng)), answer)


def _turned(code: str, rng: np.random.Generator) -> str:
    """Turn about half of the operators and constants round, and at least one."""
    places = len(_TURN.findall(code))
    if not places:
        return code
    chosen = rng.random(places) < 0.5
    chosen[rng.integers(places)] = True
    draw = iter(chosen.tolist())
    return _TURN.sub(lambda m: _TURNED[m[0]] if next(draw) else m[0], code)


class Step(NamedTuple):
    """Positions of a call's message and of its result among the parts."""

    call: int
    result: int


def _spoil_trace(record: Record, fault: AgentFault, rng: np.random.Generator) -> list[Part] | None:
    """Return the parts of an agent record with a fault; None where it has no place for it.

    A message that makes several calls at once is left as it is.
    """
    parts, steps = list(record.parts), trace_steps(record.parts)
    if not steps:
        return None
    made = _TRACES[fault](parts, steps, rng)
    return _numbered(made) if made is not None else None


def trace_steps(parts: Sequence[Part]) -> list[Step]:
    """Return the calls of a trace with their results. A message that makes several calls at once is left out."""
    found = []
    for i, (part, following) in enumerate(pairwise(parts)):
        one_call = _role(part) == "assistant" and part.text.count("<tool_call") == 1
        if one_call and _role(following) == "tool":
            found.append(Step(i, i + 1))
    return found


def _role(part: Part) -> str:
    return part.label.partition("] ")[2].partition(" ")[0]


def _numbered(parts: Sequence[Part]) -> list[Part]:
    """Number the messages again, so that no gap tells of the fault."""
    number = count()
    return [
        replace(part, label=f"[{next(number)}] {part.label.partition('] ')[2]}") if _LABEL.match(part.label) else part
        for part in parts
    ]


def _drop(parts: list[Part], step: Step, instead: str = "") -> list[Part]:
    prose = parts[step.call].text.partition("<tool_call")[0].strip()
    text = "\n".join(t for t in (prose, instead) if t)
    kept = [replace(parts[step.call], text=text)] if text else []
    return [*parts[: step.call], *kept, *parts[step.result + 1 :]]


def _call_dropped(parts: list[Part], steps: list[Step], rng: np.random.Generator) -> list[Part] | None:
    return _drop(parts, steps[rng.integers(len(steps))])


def _success_claimed(parts: list[Part], steps: list[Step], rng: np.random.Generator) -> list[Part] | None:
    return _drop(parts, steps[-1], _CLAIM)


def _results_swapped(parts: list[Part], steps: list[Step], rng: np.random.Generator) -> list[Part] | None:
    results = [s.result for s in steps]
    first = results[rng.integers(len(results))]
    others = [r for r in results if parts[r].text != parts[first].text]
    if not others:
        return None
    second = others[rng.integers(len(others))]
    made = list(parts)
    made[first] = replace(parts[first], text=parts[second].text)
    made[second] = replace(parts[second], text=parts[first].text)
    return made


def _error_ignored(parts: list[Part], steps: list[Step], rng: np.random.Generator) -> list[Part] | None:
    at = steps[rng.integers(len(steps))].result
    return [*parts[:at], replace(parts[at], text=_ERROR), *parts[at + 1 :]]


def _loop(parts: list[Part], steps: list[Step], rng: np.random.Generator) -> list[Part] | None:
    step = steps[rng.integers(len(steps))]
    again = parts[step.call : step.result + 1]
    return [*parts[: step.result + 1], *again * _LOOPS, *parts[step.result + 1 :]]


_TRACES: dict[AgentFault, Callable[[list[Part], list[Step], np.random.Generator], list[Part] | None]] = {
    AgentFault.CALL_DROPPED: _call_dropped,
    AgentFault.RESULTS_SWAPPED: _results_swapped,
    AgentFault.ERROR_IGNORED: _error_ignored,
    AgentFault.LOOP: _loop,
    AgentFault.SUCCESS_CLAIMED: _success_claimed,
}


def _in_pairs(fault: QaFault) -> Spoil:
    return lambda record, rng, other: _spoil_pair(record, fault, rng, other)


def _in_traces(fault: AgentFault) -> Spoil:
    return lambda record, rng, _other: _spoil_trace(record, fault, rng)


QA_FAULTS: dict[str, Spoil] = {fault: _in_pairs(fault) for fault in QaFault}
AGENT_FAULTS: dict[str, Spoil] = {fault: _in_traces(fault) for fault in AgentFault}
