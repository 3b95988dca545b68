"""Messages of agents, in the manner of the common chat APIs, as the text that a judge reads.

Everything that holds text is rendered, in order:

- thinking, in `<think>` ... `</think>`: the fields `reasoning_content`, `reasoning`, `thinking` and `reasoning_details`
  (the same text under two of them once), and parts of type `thinking` or `reasoning`;
- content: a string, or parts: `text`, `input_text`, `output_text`, `refusal`, and documents that hold their text;
- calls, as `<tool_call ID> name(arguments)`: `tool_calls`, `function_call`, parts of type `tool_use`, and the like;
- results, as `<tool_result ID>` and their content: parts of type `tool_result`, and the like;
- a message's `refusal`, and the transcript of its audio.

Any other part, such as an image, becomes a placeholder with its type: "[image_url]". The caller gets the type of each.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mira.corpus.record import Rejection
from mira.corpus.values import FieldProblem, as_list, kind_of

__all__ = ["message_text", "plain"]

_DEEPEST = 100  # one bound, whatever is left of the stack: a record must be the same to every stage
_DEEPEST_PART = 10
_CALLS = ("tool_use", "tool_call", "function_call", "custom_tool_call", "functionCall")
_RESULTS = ("tool_result", "tool_response", "function_call_output", "custom_tool_call_output", "functionResponse")
_RESULT_FIELDS = ("content", "output", "response", "result", "text")
_THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_TEXTS = ("text", "thinking", "reasoning", "refusal", "transcript", "code", "input_text", "output_text")

LeftOut = Callable[[str], None]
"""Takes the type of a part of which only a placeholder is shown."""


def message_text(message: Any, where: str, left_out: LeftOut) -> tuple[str, str]:
    """Return a message's label ("assistant", "tool ls call_1") and its text.

    Raises:
        FieldProblem: It is not a message.
    """
    if not isinstance(message, Mapping):
        raise FieldProblem(Rejection.BAD_FIELD, where, f"is {kind_of(message)}, not an object")
    role = message.get("role")
    if not isinstance(role, str) or not role.strip():
        what = "is missing" if role is None else f"is {kind_of(role)}, not a name"
        raise FieldProblem(Rejection.BAD_FIELD, f"{where}.role", what)
    label = [role, *(str(message[k]) for k in ("name", "tool_call_id") if message.get(k))]
    pieces = [*_thinking(message)]
    content = message.get("content")
    if content is None and isinstance(message.get("parts"), list):
        content = message["parts"]
    pieces.append(_content(content, f"{where}.content", left_out))
    pieces.extend(_calls(message, where))
    pieces.extend(_beside(message, left_out))
    return " ".join(label), "\n".join(p for p in pieces if p)


def _thinking(message: Mapping[str, Any]) -> Iterator[str]:
    texts: list[str] = []
    for name in _THINKING_FIELDS:
        text = "\n".join(t for t in _strings(message.get(name)) if t.strip()).strip()
        if text and text not in texts:
            texts.append(text)
            yield _think(text)


def _think(text: str) -> str:
    return f"<think>\n{text}\n</think>"


def _strings(value: Any) -> Iterator[str]:
    """Yield the text of thinking: of a string, of {"text": ...}, {"summary": ...}, or of a list of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item) if isinstance(item, str | Mapping) else ()
    elif isinstance(value, Mapping):
        for name in ("text", "thinking", "reasoning", "summary", "content"):
            inner = value.get(name)
            yield from _strings(inner) if not isinstance(inner, Mapping) else ()


def _beside(message: Mapping[str, Any], left_out: LeftOut) -> Iterator[str]:
    """Yield what a message says beside its content."""
    refusal, audio = message.get("refusal"), message.get("audio")
    if isinstance(refusal, str):
        yield refusal
    if isinstance(audio, Mapping):
        transcript = audio.get("transcript")
        yield transcript if isinstance(transcript, str) and transcript else _placeholder("audio", left_out)


def _content(content: Any, where: str, left_out: LeftOut, levels: int = _DEEPEST_PART) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    try:
        parts = as_list(content, where)
    except FieldProblem:
        what = f"is {kind_of(content)}, not a string or a list of parts"
        raise FieldProblem(Rejection.BAD_FIELD, where, what) from None
    if not levels:
        raise FieldProblem(Rejection.BAD_FIELD, where, "is nested too deeply")
    return "\n".join(_part(part, f"{where}[{i}]", left_out, levels - 1) for i, part in enumerate(parts or []))


def _part(part: Any, where: str, left_out: LeftOut, levels: int) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise FieldProblem(Rejection.BAD_FIELD, where, f"is {kind_of(part)}, not a content part")
    kind = _type(part)
    if _ends(kind, _RESULTS):
        return _result(part, where, left_out, levels)
    if _ends(kind, _CALLS):
        return _call(part.get(kind) if isinstance(part.get(kind), Mapping) else part, where)
    text = part.get("text")
    if kind in ("thinking", "reasoning") and (thought := "\n".join(_strings(part)).strip()):
        return _think(thought)
    if text is not None and not isinstance(text, str):
        raise FieldProblem(Rejection.BAD_FIELD, f"{where}.text", f"is {kind_of(text)}, not a string")
    found = [part[name] for name in _TEXTS if isinstance(part.get(name), str)]
    inner = _inner(part, where, left_out, levels)
    if not found and not inner:
        return _placeholder(kind or "unknown part", left_out)
    return "\n".join(dict.fromkeys([*found, *inner]))


def _type(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if isinstance(kind, str) and kind:
        return kind
    # Gemini's parts have no type, but one field that tells it
    return next((name for name in ("functionCall", "functionResponse") if isinstance(part.get(name), Mapping)), "")


def _ends(kind: str, known: tuple[str, ...]) -> bool:
    """Return whether a type is a known one or one of its many forms: `server_tool_use`, `web_search_tool_result`."""
    return kind.endswith(known)


def _inner(part: Mapping[str, Any], where: str, left_out: LeftOut, levels: int) -> list[str]:
    """Return the text inside a part: a document's, or that of parts in it."""
    source = part.get("source")
    found = [part[name] for name in ("title", "context") if part.get("type") == "document" and _is_text(part.get(name))]
    if isinstance(source, Mapping) and source.get("type") == "text" and isinstance(source.get("data"), str):
        return [*found, source["data"]]
    content = source.get("content") if isinstance(source, Mapping) else part.get("content")
    if isinstance(content, str | list) and content:
        return [*found, _content(content, f"{where}.content", left_out, levels)]
    return []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _placeholder(kind: str, left_out: LeftOut) -> str:
    left_out(kind)
    return f"[{kind}]"


def _result(part: Mapping[str, Any], where: str, left_out: LeftOut, levels: int) -> str:
    held = part.get("functionResponse")
    inner = held if isinstance(held, Mapping) else part
    name = next((str(inner[k]) for k in ("tool_use_id", "tool_call_id", "call_id", "id", "name") if inner.get(k)), "")
    mark = f"<tool_result {name}>" if name else "<tool_result>"
    given = next((inner[k] for k in _RESULT_FIELDS if inner.get(k) is not None), None)
    if given is None or isinstance(given, str):
        return f"{mark}\n{given}" if given else mark
    if isinstance(given, list) and all(isinstance(item, str | Mapping) for item in given):
        return f"{mark}\n{_content(given, f'{where}.content', left_out, levels)}"
    if isinstance(given, Mapping) and isinstance(given.get("type"), str) and isinstance(given.get("text"), str):
        return f"{mark}\n{given['text']}"
    return f"{mark}\n{plain(given, where)}"


def _calls(message: Mapping[str, Any], where: str) -> list[str]:
    calls = [] if message.get("tool_calls") == "" else as_list(message.get("tool_calls"), f"{where}.tool_calls") or []
    if message.get("function_call"):
        calls = [*calls, message["function_call"]]
    return [_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]


def _call(call: Any, where: str) -> str:
    function = call.get("function") or call.get("custom") or call if isinstance(call, Mapping) else call
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise FieldProblem(Rejection.BAD_FIELD, where, "is not a tool call with a function name")
    arguments = next((function[k] for k in ("arguments", "input", "args") if function.get(k) is not None), None)
    marked = call.get("id") or call.get("call_id")
    mark = f" {marked}" if marked else ""
    return f"<tool_call{mark}> {name}({'' if arguments is None else plain(arguments, where)})"


def plain(value: Any, where: str) -> str:
    """Return a string as it is, anything else as JSON without the nulls that Parquet fills structs up with.

    Raises:
        FieldProblem: It is nested deeper than 100 levels.
    """
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
