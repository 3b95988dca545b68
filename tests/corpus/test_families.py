import orjson
import pytest

from mira.corpus import Part, Record, Rejection
from mira.corpus.families import FieldProblem, look_up, render
from mira.family import FamilyName

WEATHER = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
CHAT = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Weather?"}, {"type": "image_url", "image_url": {"url": "x"}}],
    },
    {"role": "assistant", "content": None, "tool_calls": [WEATHER], "reasoning_content": "look it up"},
    {"role": "tool", "name": "weather", "tool_call_id": "c1", "content": "sunny"},
    {"role": "assistant", "content": "Sunny."},
]
CHAT_PARTS = (
    Part("[0] user", "Weather?\n[image_url]"),
    Part("[1] assistant", '<think>\nlook it up\n</think>\n<tool_call c1> weather({"city": "Bern"})'),
    Part("[2] tool weather c1", "sunny"),
    Part("[3] assistant", "Sunny."),
)


def problem(family: FamilyName, value: dict[str, object], fields: dict[str, str] | None = None) -> FieldProblem:
    with pytest.raises(FieldProblem) as caught:
        render(family, value, fields or {})
    return caught.value


def test_each_family_has_its_parts() -> None:
    qa = {"question": "Q?", "answer": "A.", "think": "T"}
    assert render(FamilyName.TEXT, {"text": " a "}, {}) == (Part("", " a "),)
    assert render(FamilyName.QA, qa, {}) == (Part("Question", "Q?"), Part("Answer", "A."))
    assert render(FamilyName.QA_WITH_THINK, qa, {}) == (
        Part("Question", "Q?"),
        Part("Thinking", "T"),
        Part("Answer", "A."),
    )
    assert render(FamilyName.AGENT, {"messages": CHAT}, {}) == CHAT_PARTS


def test_text_of_a_record_puts_parts_under_their_labels() -> None:
    parts = render(FamilyName.QA, {"question": "Q?", "answer": "A."}, {})
    assert Record("1", "s", FamilyName.QA, parts).text == "Question:\nQ?\n\nAnswer:\nA."


def test_messages_may_be_json_text_and_tools_come_first() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "strict": None}}]
    value = {"messages": orjson.dumps(CHAT).decode(), "tools": tools}
    tool_part = Part("Tools", '{"type": "function", "function": {"name": "weather"}}')
    assert render(FamilyName.AGENT, value, {}) == (tool_part, *CHAT_PARTS)


def test_tool_calls_with_object_arguments_without_function_and_legacy() -> None:
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": [1, None], "b": None}}]},
        {"role": "assistant", "function_call": {"name": "g"}},
    ]
    assert render(FamilyName.AGENT, {"messages": messages}, {}) == (
        Part("[0] assistant", '<tool_call> f({"a": [1, null]})'),
        Part("[1] assistant", "<tool_call> g()"),
    )


def test_think_in_the_answer_is_split_off() -> None:
    value = {"question": "Q?", "answer": " <think>\nhm\n</think>\n\n42"}
    assert render(FamilyName.QA_WITH_THINK, value, {})[1:] == (Part("Thinking", "hm"), Part("Answer", "42"))
    missing = problem(FamilyName.QA_WITH_THINK, {"question": "Q?", "answer": "42"})
    assert (missing.reason, missing.field) == (Rejection.MISSING_FIELD, "think")
    assert problem(FamilyName.QA_WITH_THINK, value | {"answer": "<think> </think>42"}).reason == Rejection.EMPTY_TEXT


SPLIT = (Part("Thinking", "hm"), Part("Answer", "42"))


@pytest.mark.parametrize("think", ["", " \n\u3000", b"", None])
@pytest.mark.parametrize(
    "answer", ["<think>hm</think>42", "\n<think>\nhm\n</think>\n\n42", "hm</think>42", "\nhm\n</think>\n42"]
)
def test_a_blank_think_is_as_if_it_were_not_there(think: object, answer: str) -> None:
    value = {"question": "Q?", "think": think, "answer": answer}
    assert render(FamilyName.QA_WITH_THINK, value, {})[1:] == SPLIT


@pytest.mark.parametrize("think", ["", None])
def test_a_record_without_any_thinking_is_refused(think: object) -> None:
    found = problem(FamilyName.QA_WITH_THINK, {"question": "Q?", "think": think, "answer": "42"})
    assert (found.reason, found.field) == (Rejection.MISSING_FIELD, "think")
    assert str(found) == "field 'think' is missing, and 'answer' does not start with <think>"


@pytest.mark.parametrize("answer", ["</think>42", " \n</think>42", "hm</think>", "hm</think> \n", "<think>hm</think>"])
def test_a_tag_with_nothing_before_or_after_it_is_refused(answer: str) -> None:
    found = problem(FamilyName.QA_WITH_THINK, {"question": "Q?", "think": "", "answer": answer})
    assert (found.reason, found.field) == (Rejection.EMPTY_TEXT, "answer")


def test_thinking_in_both_places_is_counted_once_and_two_kinds_of_it_are_kept() -> None:
    def parts(think: str, answer: str) -> tuple[Part, ...]:
        return render(FamilyName.QA_WITH_THINK, {"question": "Q?", "think": think, "answer": answer}, {})[1:]

    assert parts("hm", "<think> hm\n</think>42") == SPLIT
    assert parts("hm", "hm</think>42") == SPLIT
    assert parts("hm", "42") == SPLIT
    assert parts("hm", "other</think>42") == (Part("Thinking", "hm"), Part("Answer", "other</think>42"))


def test_a_closing_tag_that_an_answer_speaks_of_is_no_end_of_thinking() -> None:
    """A whole pair further down is part of the answer, so nothing says where thinking would end."""
    value = {"question": "Q?", "think": "", "answer": "Write <think>x</think> around it."}
    assert problem(FamilyName.QA_WITH_THINK, value).reason == Rejection.MISSING_FIELD


def test_mapping_goes_into_objects_and_lists_and_prefers_a_key_with_a_dot() -> None:
    value = {"a": {"b": [{"c": "in"}]}, "a.x": "dotted"}
    assert render(FamilyName.TEXT, value, {"text": "a.b.0.c"}) == (Part("", "in"),)
    assert look_up(value, "a.x") == "dotted"
    assert [look_up(value, p) for p in ("a.b.1.c", "a.b.c", "a.b.0.c.d", "z.z", "z")] == [None] * 5


@pytest.mark.parametrize(
    ("family", "value", "reason", "message"),
    [
        ("text", {}, "missing_field", "field 'text' is missing"),
        ("text", {"text": None}, "missing_field", "field 'text' is missing"),
        ("text", {"text": 3}, "bad_field", "field 'text' is a number, not a string"),
        ("text", {"text": ["a"]}, "bad_field", "field 'text' is a list, not a string"),
        ("text", {"text": " \n\u3000"}, "empty_text", "field 'text' is blank"),
        ("text", {"text": b"\xff"}, "invalid_utf8", "field 'text' is not UTF-8 at byte 0"),
        ("qa", {"question": "Q"}, "missing_field", "field 'answer' is missing"),
        ("qa", {"question": "Q", "answer": ""}, "empty_text", "field 'answer' is blank"),
        ("agent", {"messages": {}}, "bad_field", "field 'messages' is an object, not a list"),
        ("agent", {"messages": "hello"}, "bad_field", "field 'messages' is a string, but not a list in JSON"),
        ("agent", {"messages": []}, "empty_text", "field 'messages' has no text"),
        ("agent", {"messages": [{"role": "user", "content": " "}]}, "empty_text", "field 'messages' has no text"),
        ("agent", {"messages": ["hi"]}, "bad_field", "field 'messages[0]' is a string, not an object"),
        ("agent", {"messages": [{"content": "x"}]}, "bad_field", "field 'messages[0].role' is missing"),
        ("agent", {"messages": [{"role": 1}]}, "bad_field", "field 'messages[0].role' is a number, not a name"),
        (
            "agent",
            {"messages": [{"role": "user", "content": 1}]},
            "bad_field",
            "field 'messages[0].content' is a number, not a string or a list of parts",
        ),
        (
            "agent",
            {"messages": [{"role": "user", "content": [1]}]},
            "bad_field",
            "field 'messages[0].content[0]' is a number, not a content part",
        ),
        (
            "agent",
            {"messages": [{"role": "user", "content": "x", "tool_calls": [7]}]},
            "bad_field",
            "field 'messages[0].tool_calls[0]' is not a tool call with a function name",
        ),
    ],
)
def test_problems_name_the_field(family: str, value: dict[str, object], reason: str, message: str) -> None:
    found = problem(FamilyName(family), value)
    assert (found.reason, str(found)) == (reason, message)


@pytest.mark.parametrize("levels", [150, 700])
def test_tools_and_arguments_may_be_nested_to_a_fixed_depth(levels: int) -> None:
    deep = orjson.loads("[" * levels + "]" * levels)
    chat = {"messages": CHAT, "tools": [deep]}
    found = problem(FamilyName.AGENT, chat)
    assert (found.reason, str(found)) == (Rejection.BAD_FIELD, "field 'tools' is nested too deeply")
    call = {"function": {"name": "f", "arguments": {"deep": deep}}}
    found = problem(FamilyName.AGENT, {"messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert str(found) == "field 'messages[0].tool_calls[0]' is nested too deeply"
    shallow = orjson.loads("[" * 100 + "]" * 100)
    assert render(FamilyName.AGENT, {"messages": CHAT, "tools": [shallow]}, {})[0].text == "[" * 100 + "]" * 100


def test_problems_name_the_users_field() -> None:
    assert str(problem(FamilyName.TEXT, {"body": 1}, {"text": "body"})) == "field 'body' is a number, not a string"
