"""A trace as turns, calls and results, read from an agent record's parts."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mira.corpus.record import Part

__all__ = ["Call", "Trace", "is_error", "read_trace"]

_LABEL = re.compile(r"\[\d+\] (\S+) ?(.*)", re.DOTALL)
_CALL = re.compile(r"<tool_call(?: ([^>\n]*))?> ([^(\n]+)\((.*)\)\s*", re.DOTALL)
_CALL_START = re.compile(r"^(?=<tool_call[ >])", re.MULTILINE)
_TOOL_NAME = re.compile(r"\"name\": ?\"([^\"]+)\"")
_ERROR = re.compile(
    r"\b(?:Traceback \(most recent|[A-Z]\w*(?:Error|Exception)\b|error|exception|fail(?:ed|ure)|not found|no such|"
    r"invalid|denied|cannot|could not|unknown|unable to)",
    re.IGNORECASE,
)
_ERROR_CHARS = 400
"""A longer result tells of an error in its last line, where it does: other lines are what was read or found."""


@dataclass(slots=True)
class Call:
    """One tool call.

    Attributes:
        name: The function.
        arguments: Its arguments as they are shown.
        values: The leaves of the arguments as text; the whole text where it is not JSON.
        turn: Index of the turn that it belongs to.
        before: Length of the trace's text when it is made: what was said until then is `Trace.said[:before]`.
        result: What came back; None where nothing did.
    """

    name: str
    arguments: str
    values: tuple[str, ...]
    turn: int
    before: int
    result: str | None = None


@dataclass(slots=True)
class Trace:
    """A trace.

    Attributes:
        requests: Text of each turn's user messages, in order. Messages before the first one are turn 0.
        answers: Prose of the assistant in each turn.
        calls: Its calls, in order.
        tools: Name of each declared tool -> its description.
        roles: Role of every message.
        said: All that users, tools and the assistant said, lower-cased, without the calls.
        thinking: Characters of thinking.
    """

    requests: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    said: str = ""
    thinking: int = 0


def read_trace(parts: Sequence[Part]) -> Trace:
    """Read a trace from an agent record's parts; a part that is none of a message's is passed over."""
    trace, said, length = Trace(), [], 0
    open_calls: dict[str, Call] = {}
    for part in parts:
        found = _LABEL.fullmatch(part.label)
        if found is None:
            trace.tools |= _tools(part.text) if part.label == "Tools" else {}
            continue
        role, mark = found[1], found[2]
        if (role == "user" and (not trace.roles or trace.roles[-1] != "user")) or not trace.requests:
            _open_turn(trace)
        trace.roles.append(role)
        prose, *pieces = _CALL_START.split(part.text) if role == "assistant" else [part.text]
        calls = [match for piece in pieces if (match := _CALL.fullmatch(piece))]
        prose = prose.strip() if pieces else prose
        if role == "user":
            trace.requests[-1] += prose + "\n"
        elif role == "assistant":
            trace.answers[-1] += prose
        elif role == "tool":
            _answer(trace.calls, open_calls, mark, part.text)
        said.append(prose.lower())
        length += len(said[-1]) + 1
        for number, match in enumerate(calls):
            call = Call(match[2].strip(), match[3], _values(match[3]), len(trace.requests) - 1, length)
            trace.calls.append(call)
            open_calls[match[1] or f"{len(trace.roles)}.{number}"] = call
    trace.said = "\n".join(said)
    return trace


def _tools(text: str) -> dict[str, str]:
    """Return name -> description; a tool that is not shown as JSON has neither, where no name can be read."""
    found = {}
    for line in text.split("\n"):
        try:
            tool = json.loads(line)
            function = tool.get("function") or tool
            found[str(function["name"])] = str(function.get("description") or "")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            found |= dict.fromkeys(_TOOL_NAME.findall(line), "")
    return found


def _open_turn(trace: Trace) -> None:
    trace.requests.append("")
    trace.answers.append("")


def _answer(calls: Sequence[Call], open_calls: dict[str, Call], mark: str, text: str) -> None:
    """Give a result to the call that it names, or to the first one that has none."""
    call = open_calls.pop(mark.rpartition(" ")[2], None)
    call = call or next((c for c in calls if c.result is None), None)
    if call is not None:
        call.result = text


def _values(arguments: str) -> tuple[str, ...]:
    try:
        return tuple(_leaves(json.loads(arguments), 20))
    except (ValueError, RecursionError):
        return (arguments.strip(),) if arguments.strip() else ()


def _leaves(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, dict | list) and depth:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner, depth - 1)
    elif isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield f"{value:g}" if isinstance(value, float) else str(value)


def is_error(result: str) -> bool:
    """Tell whether a result says that the call failed: a JSON object with an error, or words of failure."""
    text = result.strip()
    if text.startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return any("error" in str(k).lower() and v for k, v in value.items()) or value.get("success") is False
    last = text.rpartition("\n")[2]
    return bool(_ERROR.search(text if len(text) <= _ERROR_CHARS else last[-_ERROR_CHARS:]))
