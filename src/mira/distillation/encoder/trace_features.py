"""What an agent's trace does, as numbers: repeats, groundless arguments, errors and what follows, unmet requests.

Read from a record's parts alone, the same for every source. All of it is ours.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mira.corpus.record import Part
from mira.distillation.encoder.code_names import read_names
from mira.distillation.encoder.trace import Call, Trace, is_error, read_trace

__all__ = ["TRACE", "trace_features"]

TRACE = (
    "turns", "calls", "calls_a_turn", "most_calls", "fewest_calls", "turns_without_call", "turns_without_reply",
    "ends_with_result", "ends_with_request", "ends_with_prose", "prose", "prose_share", "turns_with_prose", "thinking",
    "tools", "tools_unused", "tools_undeclared", "distinct_tools", "same_tool_again",
    "repeats", "repeat_share", "repeats_adjacent", "repeats_same_result", "results_repeated",
    "no_result", "empty_results", "result_chars", "longest_result",
    "errors", "error_share", "error_last", "errors_retried", "errors_ignored", "errors_at_end_of_turn",
    "values", "groundless", "groundless_share", "altered", "altered_most", "mixed", "late", "carried", "carried_share",
    "novel_words", "novel_word_share", "unmet", "unmet_share", "unmet_most", "unmet_last",
    "asks_a_call", "asks_a_call_most", "request_chars_a_call", "request_chars_a_call_most", "request_chars",
    "unserved_words", "unserved_clause_share",
    "code", "code_parsed", "code_undefined", "code_undefined_share", "code_statements", "code_calls", "code_kinds",
)  # fmt: skip
"""Names of the features, in order."""

VALUE_CHARS = 120
"""A longer argument is text or code, not a name: it need not occur before."""
_WORD = re.compile(r"[^\W\d_]+|\d+")
_NAMED = re.compile(r"'([^'\n]{2,60})'|\"([^\"\n]{2,60})\"|`([^`\n]{2,60})`|\b(\w+\.\w{1,5})\b|\b(\d[\d.,]*\d|\d)\b")
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_CLAUSE = re.compile(r"[.!?;:,\n](?:\s|$)|\b(?:and|then|after|before|once|while)\b", re.IGNORECASE)
_SERVED_CHARS = 4000
_UNSERVED = 0.8
"""A clause with a larger share of words that no call has is not served."""
_COMMON = frozenset(
    """
    the and for that this with from are was has have had will would could should can you your our its but not all any
    please need want like let just also into upon onto there here them they then than been being some such these those
    what which who how when where ensure kindly help make sure get give using use new now per via may might must about
    after before once while finally next follow provide
    """.split()  # noqa: SIM905
)
_REQUEST = re.compile(r"[.!?;](?:\s|$)|\b(?:and|then|also|next|after that|finally|subsequently)\b", re.IGNORECASE)
_NO_OUTPUT = frozenset({"", "none", "null", "(no output)", "{}", "[]"})


def trace_features(parts: Sequence[Part]) -> list[float]:
    """Return the features of an agent record, all finite: shares, flags, and logs of counts."""
    trace = read_trace(parts)
    found = {**_turns(trace), **_tools(trace), **_repeats(trace.calls), **_errors(trace.calls)}
    found |= {**_arguments(trace), **_requests(trace), **_unserved(trace), **_code(trace.calls)}
    return [found[name] for name in TRACE]


def _log(count: float) -> float:
    return float(np.log1p(count))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _turns(trace: Trace) -> dict[str, float]:
    turns = max(len(trace.requests), 1)
    calls = Counter(call.turn for call in trace.calls)
    per_turn = [calls[t] for t in range(turns)]
    prose = [len(answer.strip()) for answer in trace.answers]
    last = trace.roles[-1] if trace.roles else ""
    results = [len(c.result) for c in trace.calls if c.result is not None]
    return {
        "turns": _log(turns),
        "calls": _log(len(trace.calls)),
        "calls_a_turn": _log(len(trace.calls) / turns),
        "most_calls": _log(max(per_turn)),
        "fewest_calls": _log(min(per_turn)),
        "turns_without_call": _share(per_turn.count(0), turns),
        "turns_without_reply": _share(sum(not n and not p for n, p in zip(per_turn, prose, strict=False)), turns),
        "ends_with_result": float(last == "tool"),
        "ends_with_request": float(last == "user"),
        "ends_with_prose": float(last == "assistant" and bool(prose and prose[-1])),
        "prose": _log(sum(prose)),
        "prose_share": _share(sum(prose), sum(prose) + sum(len(c.arguments) for c in trace.calls)),
        "turns_with_prose": _share(sum(p > 0 for p in prose), turns),
        "thinking": _log(trace.said.count("<think>")),
        "no_result": _share(len(trace.calls) - len(results), len(trace.calls)),
        "result_chars": _log(sum(results)),
        "longest_result": _log(max(results, default=0)),
    }


def _tools(trace: Trace) -> dict[str, float]:
    used = [call.name for call in trace.calls]
    declared, names = set(trace.tools), set(used)
    again = sum(a == b for a, b in pairwise(used))
    return {
        "tools": _log(len(declared)),
        "tools_unused": _share(len(declared - names), len(declared)),
        "tools_undeclared": _share(len(names - declared), len(names)) if declared else 0.0,
        "distinct_tools": _share(len(names), len(used)),
        "same_tool_again": _share(again, len(used)),
    }


def _repeats(calls: Sequence[Call]) -> dict[str, float]:
    seen: dict[tuple[str, str], str | None] = {}
    repeats = adjacent = same_result = 0
    last = None
    for call in calls:
        key = (call.name, call.arguments)
        if key in seen:
            repeats += 1
            adjacent += key == last
            same_result += seen[key] == call.result
        seen[key], last = call.result, key
    results = [c.result for c in calls if c.result is not None and c.result.strip().lower() not in _NO_OUTPUT]
    return {
        "repeats": _log(repeats),
        "repeat_share": _share(repeats, len(calls)),
        "repeats_adjacent": _log(adjacent),
        "repeats_same_result": _log(same_result),
        "results_repeated": _share(len(results) - len(set(results)), len(results)),
        "empty_results": _share(sum((c.result or "").strip().lower() in _NO_OUTPUT for c in calls), len(calls)),
    }


def _errors(calls: Sequence[Call]) -> dict[str, float]:
    failed = [i for i, call in enumerate(calls) if call.result is not None and is_error(call.result)]
    following = [(calls[i], calls[i + 1] if i + 1 < len(calls) else None) for i in failed]
    same_turn = [(a, b) for a, b in following if b is not None and a.turn == b.turn]
    retried = sum(a.name == b.name and a.arguments != b.arguments for a, b in same_turn)
    return {
        "errors": _log(len(failed)),
        "error_share": _share(len(failed), len(calls)),
        "error_last": float(bool(failed) and failed[-1] == len(calls) - 1),
        "errors_retried": _log(retried),
        "errors_ignored": _log(len(same_turn) - retried),
        "errors_at_end_of_turn": _log(len(following) - len(same_turn)),
    }


def _arguments(trace: Trace) -> dict[str, float]:
    """Where do the arguments come from: from what was said before, from a call before, from nowhere?"""
    requests = "\n".join(trace.requests).lower()
    known: set[str] = set()
    values = groundless = mixed = late = carried = 0
    altered: list[float] = []
    words = novel = 0
    vocabulary: set[str] = set()
    read = 0
    for call in trace.calls:
        before = trace.said[: call.before]
        vocabulary.update(_WORD.findall(trace.said[read : call.before]))
        read = call.before
        own = [value.lower() for value in call.values]
        for value in own:
            if len(value) > VALUE_CHARS or "\n" in value:
                continue
            values += 1
            pieces = _WORD.findall(value)
            strange = [p for p in pieces if p not in vocabulary]
            words += len(pieces)
            novel += len(strange)
            if value in before or value in known:
                carried += value not in requests and value not in known
                continue
            groundless += 1
            mixed += bool(strange) and len(strange) < len(pieces)
            late += value in trace.said
            altered.append(_longest_known(value, before) if len(value) > 3 else 0.0)
        known.update(own)
        vocabulary.update(word for value in own for word in _WORD.findall(value))
    return {
        "values": _log(values),
        "groundless": _log(groundless),
        "groundless_share": _share(groundless, values),
        "altered": _log(sum(a > 0.5 for a in altered)),
        "altered_most": max(altered, default=0.0),
        "mixed": _log(mixed),
        "late": _log(late),
        "carried": _log(carried),
        "carried_share": _share(carried, values),
        "novel_words": _log(novel),
        "novel_word_share": _share(novel, words),
    }


def _longest_known(value: str, before: str) -> float:
    """Return the share of a value's characters that its longest beginning found in `before` has."""
    low, high = 0, len(value)
    while low < high:
        middle = (low + high + 1) // 2
        if value[:middle] in before:
            low = middle
        else:
            high = middle - 1
    return low / len(value)


def _requests(trace: Trace) -> dict[str, float]:
    """Does something answer each request: do its named things turn up in the calls, and are there enough calls?"""
    unmet: list[float] = []
    named_total = unmet_total = 0
    asks, chars = [], []
    for turn, request in enumerate(trace.requests):
        calls = [c for c in trace.calls if c.turn == turn]
        later = "\n".join(f"{c.name} {c.arguments}".lower() for c in trace.calls if c.turn >= turn)
        answer = "\n".join(trace.answers[turn:]).lower()
        things = {next(g for g in m.groups() if g).lower() for m in _NAMED.finditer(request)}
        missing = sum(t not in later and t not in answer for t in things)
        named_total += len(things)
        unmet_total += missing
        unmet.append(_share(missing, len(things)))
        sentences = len(_REQUEST.findall(request)) or 1
        asks.append(sentences / (len(calls) + 0.5))
        chars.append(len(request) / (len(calls) + 0.5))
    return {
        "unmet": _log(unmet_total),
        "unmet_share": _share(unmet_total, named_total),
        "unmet_most": max(unmet, default=0.0),
        "unmet_last": unmet[-1] if unmet else 0.0,
        "asks_a_call": _log(sum(asks) / max(len(asks), 1)),
        "asks_a_call_most": _log(max(asks, default=0.0)),
        "request_chars_a_call": _log(sum(chars) / max(len(chars), 1)),
        "request_chars_a_call_most": _log(max(chars, default=0.0)),
        "request_chars": _log(sum(map(len, trace.requests))),
    }


def _unserved(trace: Trace) -> dict[str, float]:
    """Clauses of the requests that no call has a word of: in its name, its tool's description, arguments or result."""
    total = words = missing = unserved = 0
    for turn, request in enumerate(trace.requests):
        served = set(_stems(trace.answers[turn]))
        for call in trace.calls:
            if call.turn == turn:
                description = trace.tools.get(call.name, "")
                served.update(_stems(f"{call.name} {description} {call.arguments} {call.result or ''}"))
        for clause in _CLAUSE.split(request):
            stems = set(_stems(clause))
            if len(stems) >= 2:
                lacking = len(stems - served)
                words, missing, total = words + len(stems), missing + lacking, total + 1
                unserved += lacking > _UNSERVED * len(stems)
    return {"unserved_words": _share(missing, words), "unserved_clause_share": _share(unserved, total)}


def _stems(text: str) -> list[str]:
    """Return the first letters of a text's longer words; camelCase and snake_case are taken apart."""
    return [w[:5].lower() for w in _PIECE.findall(text[:_SERVED_CHARS]) if len(w) > 2 and w.lower() not in _COMMON]


def _code(calls: Sequence[Call]) -> dict[str, float]:
    """Code among the arguments: does it parse, and does it use what no call before it has defined?"""
    pieces = [v for c in calls for v in c.values if "\n" in v or "(" in v or "=" in v]
    defined: set[str] = set()
    parsed = undefined = names = statements = called = 0
    kinds: set[str] = set()
    for piece in pieces:
        found = read_names(piece)
        parsed += found.parsed
        undefined += len(found.free - defined)
        names += len(found.free)
        defined |= found.defined | found.free
        statements += found.statements
        called += found.calls
        kinds |= found.kinds
    return {
        "code": _share(len(pieces), len(calls)),
        "code_parsed": _share(parsed, len(pieces)),
        "code_undefined": _log(undefined),
        "code_undefined_share": _share(undefined, names),
        "code_statements": _log(statements),
        "code_calls": _log(called),
        "code_kinds": float(len(kinds)) / 10,
    }
