"""Families: how a record's fields become the parts that a judge reads.

====================  ==================================  ===========================================
family                required fields                     parts
====================  ==================================  ===========================================
text                  text                                one, without a label
qa                    question, answer                    Question, Answer
qa_with_think         question, think, answer             Question, Thinking, Answer
agent                 messages (optional: tools)          Tools, then one a message: "[0] user", ...
====================  ==================================  ===========================================

A field is found under its own name, or under the name that the source's `fields` maps it to. A dot goes into nested
objects and a number into lists (`meta.body`, `turns.0.content`); a key that itself holds the dot wins. A null counts
as missing. Strings must be strings: a number or a list in their place is a wrong type, never converted.

`qa_with_think` also accepts a missing or blank `think` when the answer starts with `<think>...</think>`, or with the
thinking and `</think>`.
`messages` is a list in the manner of OpenAI's chat API, or that list as a JSON string (columns of Parquet often are):
`role`; `content` as a string, null, or a list of content parts; `tool_calls` (function name and arguments, as objects
or JSON text); `name` and `tool_call_id` of tool replies; `reasoning_content` where a model left its thinking.
Parts of a message that are not text (images, audio) are shown as "[image_url]".
Tools and arguments of calls that are nested deeper than 100 levels are a wrong type.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mira.corpus.messages import message_text, plain
from mira.corpus.record import Part, Rejection
from mira.corpus.values import FieldProblem, as_list, kind_of, look_up, parse_json, parse_slowly
from mira.family import FamilyName

__all__ = ["OPTIONAL", "REQUIRED", "FieldProblem", "look_up", "parse_json", "parse_slowly", "render"]

REQUIRED: dict[FamilyName, tuple[str, ...]] = {
    FamilyName.TEXT: ("text",),
    FamilyName.QA: ("question", "answer"),
    FamilyName.QA_WITH_THINK: ("question", "think", "answer"),
    FamilyName.AGENT: ("messages",),
}
OPTIONAL: dict[FamilyName, tuple[str, ...]] = {
    FamilyName.TEXT: ("id",),
    FamilyName.QA: ("id",),
    FamilyName.QA_WITH_THINK: ("id",),
    FamilyName.AGENT: ("id", "tools"),
}

_THINK = re.compile(r"[\s\ufeff]*<think>(.*?)</think>\s*(.*)\Z", re.DOTALL)
# Chat templates put the opening tag into the prompt: what they then record starts with the thinking itself.
_BARE_CLOSE = re.compile(r"(?!.*<think>.*</think>)(.*?)</think>\s*(.*)\Z", re.DOTALL)


def render(
    family: FamilyName, value: Mapping[str, Any], fields: Mapping[str, str], left_out: list[str] | None = None
) -> tuple[Part, ...]:
    """Turn one object into parts.

    Args:
        family: Its family.
        value: The parsed object.
        fields: Mapping of mira's field names to the user's.
        left_out: Takes the type of each content part of which there is only a placeholder.

    Returns:
        The parts, never empty, each required one not blank.

    Raises:
        FieldProblem: A required field is missing, blank, or of the wrong type.
    """
    if family is FamilyName.AGENT:
        return _agent(value, fields, (left_out if left_out is not None else []).append)
    return _RENDERERS[family](value, fields)


def _text(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    return (Part("", _string(value, fields.get("text", "text"))),)


def _qa(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    question = _string(value, fields.get("question", "question"))
    return Part("Question", question), Part("Answer", _string(value, fields.get("answer", "answer")))


def _qa_with_think(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    question = _string(value, fields.get("question", "question"))
    think_name, answer_name = fields.get("think", "think"), fields.get("answer", "answer")
    answer = _string(value, answer_name)
    match = _THINK.match(answer) or _BARE_CLOSE.match(answer)
    given = look_up(value, think_name)
    blank = isinstance(given, str | bytes) and not given.strip()
    if given is not None and not blank:
        think = _string(value, think_name)
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


def _string(value: Mapping[str, Any], name: str) -> str:
    found = look_up(value, name)
    if type(found) is not str:
        if found is None:
            raise FieldProblem(Rejection.MISSING_FIELD, name, "is missing")
        if isinstance(found, bytes):
            found = _decode(found, name)
        else:
            raise FieldProblem(Rejection.BAD_FIELD, name, f"is {kind_of(found)}, not a string")
    if not found or found.isspace():
        raise FieldProblem(Rejection.EMPTY_TEXT, name, "is blank")
    return found


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FieldProblem(Rejection.INVALID_UTF8, name, f"is not UTF-8 at byte {error.start}") from None


def _agent(value: Mapping[str, Any], fields: Mapping[str, str], left_out: Callable[[str], None]) -> tuple[Part, ...]:
    name, tools_name = fields.get("messages", "messages"), fields.get("tools", "tools")
    messages = as_list(look_up(value, name), name)
    if messages is None:
        raise FieldProblem(Rejection.MISSING_FIELD, name, "is missing")
    rendered = [message_text(m, f"{name}[{i}]", left_out) for i, m in enumerate(messages)]
    if not any(text.strip() for _, text in rendered):
        raise FieldProblem(Rejection.EMPTY_TEXT, name, "has no text")
    parts = [Part(f"[{i}] {label}", text) for i, (label, text) in enumerate(rendered)]
    given = look_up(value, tools_name)
    if tools := [] if given == "" else as_list(given, tools_name):
        parts.insert(0, Part("Tools", "\n".join(plain(tool, tools_name) for tool in tools)))
    return tuple(parts)


_RENDERERS: dict[FamilyName, Callable[[Mapping[str, Any], Mapping[str, str]], tuple[Part, ...]]] = {
    FamilyName.TEXT: _text,
    FamilyName.QA: _qa,
    FamilyName.QA_WITH_THINK: _qa_with_think,
}
