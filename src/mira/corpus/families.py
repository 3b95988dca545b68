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

`qa_with_think` also accepts a missing `think` when the answer starts with `<think>...</think>`.
`messages` is a list in the manner of OpenAI's chat API, or that list as a JSON string (columns of Parquet often are):
`role`; `content` as a string, null, or a list of content parts; `tool_calls` (function name and arguments, as objects
or JSON text); `name` and `tool_call_id` of tool replies; `reasoning_content` where a model left its thinking.
Parts of a message that are not text (images, audio) are shown as "[image_url]".
Tools and arguments of calls that are nested deeper than 100 levels are a wrong type.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from mira.corpus.record import Part, Rejection
from mira.family import FamilyName

__all__ = ["OPTIONAL", "REQUIRED", "FieldProblem", "look_up", "parse_json", "render"]

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

_DEEPEST = 100  # one bound, whatever is left of the stack: a record must be the same to every stage
_THINK = re.compile(r"\s*<think>(.*?)</think>\s*(.*)\Z", re.DOTALL)


class FieldProblem(Exception):
    """A field keeps an object from being a record.

    Attributes:
        reason: The rejection.
        field: The user's name of the field.
        what: What is wrong with it, as the rest of a sentence: "is missing".
    """

    def __init__(self, reason: Rejection, field: str, what: str) -> None:
        super().__init__(f"field '{field}' {what}")
        self.reason, self.field, self.what = reason, field, what


def parse_json(data: bytes | str) -> Any:
    """Parse JSON: strictly and fast, then as Python's json does, which also takes NaN and lone surrogates.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def look_up(value: Mapping[str, Any], path: str) -> Any:
    """Return what `path` leads to in a nested object, or None."""
    found = value.get(path)
    if found is not None or "." not in path:
        return found
    current: Any = value
    for step in path.split("."):
        if isinstance(current, Mapping):
            current = current.get(step)
        elif isinstance(current, list) and step.isdecimal() and int(step) < len(current):
            current = current[int(step)]
        else:
            return None
    return current


def render(family: FamilyName, value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    """Turn one object into parts.

    Args:
        family: Its family.
        value: The parsed object.
        fields: Mapping of mira's field names to the user's.

    Returns:
        The parts, never empty, each required one not blank.

    Raises:
        FieldProblem: A required field is missing, blank, or of the wrong type.
    """
    return _RENDERERS[family](value, fields)


def _text(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    return (Part("", _string(value, fields.get("text", "text"))),)


def _qa(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    question = _string(value, fields.get("question", "question"))
    return Part("Question", question), Part("Answer", _string(value, fields.get("answer", "answer")))


def _qa_with_think(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    question = _string(value, fields.get("question", "question"))
    think_name, answer_name = fields.get("think", "think"), fields.get("answer", "answer")
    if look_up(value, think_name) is not None:
        return _think_parts(question, _string(value, think_name), _string(value, answer_name))
    match = _THINK.match(_string(value, answer_name))
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
            raise FieldProblem(Rejection.BAD_FIELD, name, f"is {_kind(found)}, not a string")
    if not found or found.isspace():
        raise FieldProblem(Rejection.EMPTY_TEXT, name, "is blank")
    return found


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FieldProblem(Rejection.INVALID_UTF8, name, f"is not UTF-8 at byte {error.start}") from None


def _agent(value: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[Part, ...]:
    name = fields.get("messages", "messages")
    messages = _list(value, name)
    if messages is None:
        raise FieldProblem(Rejection.MISSING_FIELD, name, "is missing")
    rendered = [_message(m, f"{name}[{i}]") for i, m in enumerate(messages)]
    if not any(text.strip() for _, text in rendered):
        raise FieldProblem(Rejection.EMPTY_TEXT, name, "has no text")
    parts = [Part(f"[{i}] {label}", text) for i, (label, text) in enumerate(rendered)]
    tools_name = fields.get("tools", "tools")
    tools = _list(value, tools_name)
    if tools:
        parts.insert(0, Part("Tools", "\n".join(_plain(tool, tools_name) for tool in tools)))
    return tuple(parts)


def _list(value: Mapping[str, Any], name: str) -> list[Any] | None:
    found = look_up(value, name)
    if isinstance(found, str):
        try:
            found = parse_json(found)
        except ValueError:
            raise FieldProblem(Rejection.BAD_FIELD, name, "is a string, but not a list in JSON") from None
    if found is not None and not isinstance(found, list):
        raise FieldProblem(Rejection.BAD_FIELD, name, f"is {_kind(found)}, not a list")
    return found


def _message(message: Any, where: str) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise FieldProblem(Rejection.BAD_FIELD, where, f"is {_kind(message)}, not an object")
    role = message.get("role")
    if not isinstance(role, str) or not role.strip():
        what = "is missing" if role is None else f"is {_kind(role)}, not a name"
        raise FieldProblem(Rejection.BAD_FIELD, f"{where}.role", what)
    label = [role, *(str(message[k]) for k in ("name", "tool_call_id") if message.get(k))]
    pieces = []
    thinking = message.get("reasoning_content")
    if isinstance(thinking, str) and thinking.strip():
        pieces.append(f"<think>\n{thinking.strip()}\n</think>")
    pieces.append(_content(message.get("content"), f"{where}.content"))
    pieces.extend(_calls(message, where))
    return " ".join(label), "\n".join(p for p in pieces if p)


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise FieldProblem(Rejection.BAD_FIELD, where, f"is {_kind(content)}, not a string or a list of parts")
    return "\n".join(_content_part(part, f"{where}[{i}]") for i, part in enumerate(content))


def _content_part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise FieldProblem(Rejection.BAD_FIELD, where, f"is {_kind(part)}, not a content part")
    text = part.get("text")
    if text is None:
        return f"[{part.get('type') or 'unknown part'}]"
    if not isinstance(text, str):
        raise FieldProblem(Rejection.BAD_FIELD, f"{where}.text", f"is {_kind(text)}, not a string")
    return text


def _calls(message: Mapping[str, Any], where: str) -> list[str]:
    calls = _list(message, "tool_calls") or []
    if message.get("function_call"):
        calls = [*calls, message["function_call"]]
    return [_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]


def _call(call: Any, where: str) -> str:
    function = call.get("function") or call if isinstance(call, Mapping) else call
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise FieldProblem(Rejection.BAD_FIELD, where, "is not a tool call with a function name")
    arguments = function.get("arguments")
    mark = f" {call['id']}" if call.get("id") else ""
    return f"<tool_call{mark}> {name}({'' if arguments is None else _plain(arguments, where)})"


def _plain(value: Any, where: str) -> str:
    """Return a string as it is, anything else as JSON without the nulls that Parquet fills structs up with."""
    if isinstance(value, str):
        return value
    return json.dumps(_without_nulls(value, where, _DEEPEST), ensure_ascii=False, default=str)


def _without_nulls(value: Any, where: str, levels: int) -> Any:
    if not isinstance(value, Mapping | list):
        return value
    if not levels:
        raise FieldProblem(Rejection.BAD_FIELD, where, "is nested too deeply")
    if isinstance(value, list):
        return [_without_nulls(v, where, levels - 1) for v in value]
    return {k: _without_nulls(v, where, levels - 1) for k, v in value.items() if v is not None}


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), f"of type {type(value).__name__}")


_RENDERERS: dict[FamilyName, Callable[[Mapping[str, Any], Mapping[str, str]], tuple[Part, ...]]] = {
    FamilyName.TEXT: _text,
    FamilyName.QA: _qa,
    FamilyName.QA_WITH_THINK: _qa_with_think,
    FamilyName.AGENT: _agent,
}
