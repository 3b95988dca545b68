"""Families `qa` and `qa_with_think`: a question and its answer, with the thinking between them or without."""

import re

from mira.corpus.families.family import Family, Fields
from mira.corpus.record import Part, Rejection
from mira.corpus.values import FieldProblem

__all__ = ["QA", "QA_WITH_THINK"]

_THINK = re.compile(r"[\s\ufeff]*<think>(.*?)</think>\s*(.*)\Z", re.DOTALL)
# Chat templates put the opening tag into the prompt: what they then record starts with the thinking itself.
_BARE_CLOSE = re.compile(r"(?!.*<think>.*</think>)(.*?)</think>\s*(.*)\Z", re.DOTALL)


def _qa(fields: Fields) -> tuple[Part, ...]:
    question = fields.text("question")
    return Part("Question", question), Part("Answer", fields.text("answer"))


def _qa_with_think(fields: Fields) -> tuple[Part, ...]:
    question = fields.text("question")
    think_name, answer_name = fields.name("think"), fields.name("answer")
    answer = fields.text("answer")
    match = _THINK.match(answer) or _BARE_CLOSE.match(answer)
    given = fields.get("think")
    blank = isinstance(given, str | bytes) and not given.strip()
    if given is not None and not blank:
        think = fields.text("think")
        # The same thinking in both places is counted once.
        again = match is not None and match[1].split() == think.split() and match[2].strip()
        return _think_parts(question, think, match[2] if match and again else answer)
    if match is None:
        raise FieldProblem(
            Rejection.MISSING_FIELD, think_name, f"is missing, and '{answer_name}' does not start with <think>"
        )
    if not match[1].strip() or not match[2].strip():
        raise FieldProblem(Rejection.EMPTY_TEXT, answer_name, "is blank inside or after <think>...</think>")
    return _think_parts(question, match[1].strip(), match[2])


def _think_parts(question: str, think: str, answer: str) -> tuple[Part, ...]:
    return Part("Question", question), Part("Thinking", think), Part("Answer", answer)


def _think_blocks(n: int) -> str:
    """Say which part of a record each third of the slots judges: of 15, 5 the thinking, 5 both, 5 the rest."""
    if n < 3:
        return ""
    first, second = round(n / 3), round(2 * n / 3)
    return (
        f"Slots {_span(1, first)} judge the thinking alone; slots {_span(first + 1, second)} judge thinking and answer "
        f"together; slots {_span(second + 1, n)} judge question and answer alone."
    )


def _span(first: int, last: int) -> str:
    return f"A{first}" if first == last else f"A{first}-A{last}"


QA = Family(
    name="qa",
    required=("question", "answer"),
    records="a corpus of questions and answers",
    render=_qa,
    features="mira.distillation.encoder.parts:QA",
    faults="mira.evaluation.family_faults:QA_FAULTS",
)
QA_WITH_THINK = Family(
    name="qa_with_think",
    required=("question", "think", "answer"),
    records="a corpus of questions with thinking and answers",
    guide=_think_blocks,
    render=_qa_with_think,
    features="mira.distillation.encoder.parts:QA_WITH_THINK",
    faults="mira.evaluation.family_faults:QA_FAULTS",
)
