"""What students see of a question with its answer, and of a trace."""

import json
import time

import numpy as np
import pytest

from mira.corpus.families import find_family, render
from mira.corpus.record import Part, Record
from mira.distillation.encoder.features import featurise
from mira.distillation.encoder.pair_features import PAIR, pair_features
from mira.distillation.encoder.parts import part_features
from mira.distillation.encoder.trace import is_error, read_trace
from mira.distillation.encoder.trace_features import TRACE, trace_features
from mira.family import FamilyName

TOOLS = [{"type": "function", "function": {"name": n, "description": f"{n} a file"}} for n in ("move", "show")]


def call(number: int, name: str, **arguments: object) -> dict[str, object]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{number}", "function": function}]}


def result(number: int, text: str) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": text}


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


GOOD = [
    user("Move 'notes.txt' into the folder 'archive'."),
    call(0, "move", source="notes.txt", target="archive"),
    result(0, '{"moved": true, "ticket": 4711}'),
    user("Show the file with that ticket."),
    call(1, "show", ticket=4711),
    result(1, "the notes"),
    {"role": "assistant", "content": "Done."},
]


def parts(messages: list[dict[str, object]]) -> tuple[Part, ...]:
    return render(FamilyName.AGENT, {"messages": messages, "tools": TOOLS}, {})


def feature(messages: list[dict[str, object]], name: str) -> float:
    return trace_features(parts(messages))[TRACE.index(name)]


def test_a_trace_is_read_as_turns_calls_and_results() -> None:
    trace = read_trace(parts(GOOD))
    assert list(trace.tools) == ["move", "show"] and trace.tools["move"] == "move a file"
    assert [(c.name, c.values, c.turn) for c in trace.calls] == [
        ("move", ("notes.txt", "archive"), 0),
        ("show", ("4711",), 1),
    ]
    assert trace.calls[1].result == "the notes" and trace.answers == ["", "Done."]
    assert len(trace.requests) == 2 and trace.roles[-1] == "assistant"


def test_results_find_their_calls_in_any_order() -> None:
    both = call(0, "move", a=1)
    both["tool_calls"] += call(1, "show", b=2)["tool_calls"]
    trace = read_trace(parts([user("go"), both, result(1, "second"), result(0, "first")]))
    assert [c.result for c in trace.calls] == ["first", "second"]
    nameless = [user("go"), call(0, "move", a=1), {"role": "tool", "content": "it"}]
    assert read_trace(parts(nameless)).calls[0].result == "it"


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("repeats_adjacent", [*GOOD[:3], call(5, "move", source="notes.txt", target="archive"), result(5, "{}")]),
        ("altered", [GOOD[0], call(0, "move", source="notes.txt_old", target="archive"), *GOOD[2:]]),
        ("groundless", [*GOOD[:4], call(1, "show", ticket=999), *GOOD[5:]]),
        ("turns_without_reply", [GOOD[0], {"role": "tool", "content": "x"}, *GOOD[3:]]),
        ("unmet", [*GOOD[:1], call(0, "move", source="other"), *GOOD[2:]]),
        ("errors", [*GOOD[:2], result(0, '{"error": "no such file"}'), *GOOD[3:]]),
        ("errors_at_end_of_turn", [*GOOD[:2], result(0, '{"error": "no such file"}'), *GOOD[3:]]),
        ("no_result", [*GOOD[:5], GOOD[6]]),
        ("tools_undeclared", [*GOOD[:1], call(0, "burn", source="notes.txt"), *GOOD[2:]]),
        ("tools_unused", GOOD[:3]),
        ("ends_with_request", [*GOOD, user("And now?")]),
        ("ends_with_result", GOOD[:6]),
    ],
)
def test_what_goes_wrong_in_a_trace_is_a_number(name: str, messages: list[dict[str, object]]) -> None:
    assert feature(messages, name) > feature(GOOD, name), name


def test_values_carried_from_results_to_calls() -> None:
    assert feature(GOOD, "carried") == pytest.approx(np.log1p(1))
    assert feature(GOOD, "groundless") == feature(GOOD, "repeats") == feature(GOOD, "errors") == 0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"error": "x"}', True), ('{"error": null, "n": 1}', False), ('{"success": false}', True),
        ("Traceback (most recent call last):\n  File\nKeyError: 'a'", True), ("command not found", True),
        ("42", False), ("", False), ("The error log is long. " * 40 + "\nfine", False),
    ],
)  # fmt: skip
def test_what_counts_as_an_error(text: str, wrong: bool) -> None:
    assert is_error(text) is wrong


def pair(question: str, answer: str, name: str) -> float:
    return pair_features(question, answer)[PAIR.index(name)]


QUESTION = "Write `total`.\n\n```python\ndef total(prices, rate):\n    '''Returns the sum of prices times rate.'''\n```"
ANSWER = "```python\n    subtotal = sum(prices)\n    return subtotal * rate\n```"
OTHER = "```python\n    for row in cursor:\n        emit(row)\n```"


def test_a_pair_is_read_as_a_pair() -> None:
    assert pair(QUESTION, ANSWER, "code_parsed") == 1 and pair(QUESTION, ANSWER, "code_free_unknown") == 0
    assert pair(QUESTION, ANSWER, "code_parameters_used") == 1 and pair(QUESTION, OTHER, "code_parameters_used") == 0
    assert pair(QUESTION, OTHER, "code_free_unknown") == pytest.approx(np.log1p(2))
    assert pair(QUESTION, ANSWER, "returns_asked_and_given") == 1
    assert pair(QUESTION, OTHER, "returns_asked_and_given") == 0
    assert pair(QUESTION, ANSWER.replace("sum(", "sum("), "code_broken") == 0
    assert pair(QUESTION, ANSWER.replace("sum(", "sum(("), "code_broken") == 1
    assert pair(QUESTION, QUESTION, "overlap") == 1 > pair(QUESTION, OTHER, "overlap")
    assert pair("Why?", "x" * 400, "length_ratio") > 0 > pair("Why? " * 90, "x", "length_ratio")
    assert pair(QUESTION, ANSWER, "answer_log_chars") == pytest.approx(np.log1p(len(ANSWER)))


@pytest.mark.parametrize("family", list(FamilyName))
def test_every_familys_features_are_finite_and_have_names(family: FamilyName) -> None:
    fields = {"text": "t", "question": "q", "think": "h", "answer": "a", "messages": [user("\x00"), user("é" * 9)]}
    record = Record("r", "s", family, render(family, fields, {}))
    row = part_features([record])
    names = find_family(family).part_features().names
    assert row.shape == (1, len(names)) and np.isfinite(row).all()
    assert len(set(names)) == row.shape[1]
    assert featurise([record], None).parts.shape == row.shape


@pytest.mark.parametrize(
    "piece", ["<tool_call> a(", "\n<tool_call a> b(\n", "def a(", "```\n", "'a ", "a_", "{", "a.", "("]
)
def test_no_text_makes_the_features_slow(piece: str) -> None:
    text = piece * (60_000 // len(piece))
    started = time.process_time()
    pair_features(text, text)
    message = {"role": "assistant", "content": text}
    trace_features(parts([user(text), message, result(0, text)]))
    assert time.process_time() - started < 5
