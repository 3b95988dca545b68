import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.corpus import build_index
from mira.corpus.families import FieldProblem, render
from mira.family import FamilyName
from mira.progress import Quiet
from support.corpus_project import Project

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"id": "c1", "function": {"name": "ls", "arguments": '{"path": "."}'}}
TEXT = {"type": "text", "text": "t"}


def text_of(message: dict[str, object]) -> str:
    parts = render(FamilyName.AGENT, {"messages": [{"role": "user", "content": "Go."}, message]}, {})
    return parts[1].text


def blocks(*parts: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(parts)}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (blocks({"type": "thinking", "thinking": "hm", "signature": "x"}, TEXT), "<think>\nhm\n</think>\nt"),
        (blocks({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}), "<think>\nhm\n</think>"),
        (blocks({"type": "tool_use", "id": "c1", "name": "ls", "input": {"p": 1}}), '<tool_call c1> ls({"p": 1})'),
        (blocks({"type": "server_tool_use", "id": "c", "name": "web", "input": {}}), "<tool_call c> web({})"),
        (blocks({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}), "<tool_call c> f({})"),
        (blocks({"functionCall": {"name": "f", "args": {"a": 1}}}), '<tool_call> f({"a": 1})'),
        (blocks({"type": "tool_result", "tool_use_id": "c1", "content": "out"}), "<tool_result c1>\nout"),
        (blocks({"type": "tool_result", "tool_use_id": "c1", "content": [TEXT, TEXT]}), "<tool_result c1>\nt\nt"),
        (blocks({"type": "tool_result", "tool_use_id": "c1", "content": [IMAGE]}), "<tool_result c1>\n[image_url]"),
        (blocks({"type": "tool_result", "tool_use_id": "c1"}), "<tool_result c1>"),
        (blocks({"type": "function_call_output", "call_id": "c", "output": "out"}), "<tool_result c>\nout"),
        (
            blocks({"type": "web_search_tool_result", "tool_use_id": "c", "content": [{"type": "r", "text": "hit"}]}),
            "<tool_result c>\nhit",
        ),
        (
            blocks({"functionResponse": {"name": "f", "response": {"a": [1]}}}),
            '<tool_result f>\n{"a": [1]}',
        ),
        (blocks({"type": "refusal", "refusal": "No."}), "No."),
        (blocks({"type": "output_text", "text": "o"}, {"type": "input_text", "text": "i"}), "o\ni"),
        (blocks({"type": "document", "title": "T", "source": {"type": "text", "data": "body"}}), "T\nbody"),
        (blocks({"type": "input_audio", "input_audio": {}, "transcript": "said"}), "said"),
        (blocks(IMAGE, {"type": "redacted_thinking", "data": "zz"}), "[image_url]\n[redacted_thinking]"),
        (blocks({"type": "text", "text": None}), "[text]"),
        (blocks(), ""),
        ({"role": "assistant", "reasoning": "hm", "content": "t"}, "<think>\nhm\n</think>\nt"),
        ({"role": "assistant", "thinking": "hm", "content": "t"}, "<think>\nhm\n</think>\nt"),
        (
            {"role": "a", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
            "<think>\nhm\n</think>",
        ),
        ({"role": "assistant", "content": None, "refusal": "No."}, "No."),
        ({"role": "assistant", "content": None, "audio": {"transcript": "said"}}, "said"),
        ({"role": "model", "parts": [{"text": "t"}]}, "t"),
        ({"role": "assistant", "content": "t", "tool_calls": ""}, "t"),
        ({"role": "assistant", "tool_calls": orjson.dumps([CALL]).decode()}, '<tool_call c1> ls({"path": "."})'),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "py", "input": "1"}}],
            },
            "<tool_call c> py(1)",
        ),
        ({"role": "assistant", "content": {"type": ["text", "text"], "text": ["a", "b"]}}, "a\nb"),
    ],
)
def test_all_that_holds_text_is_rendered(message: dict[str, object], expected: str) -> None:
    assert text_of(message) == expected


def test_messages_may_be_lists_side_by_side(project: Project) -> None:
    columns = {"role": ["user", "assistant"], "content": ["hi", "yo"]}
    parts = render(FamilyName.AGENT, {"messages": columns}, {})
    assert [(p.label, p.text) for p in parts] == [("[0] user", "hi"), ("[1] assistant", "yo")]
    with pytest.raises(FieldProblem, match="lists of different lengths"):
        render(FamilyName.AGENT, {"messages": {"role": ["user"], "content": []}}, {})
    pq.write_table(pa.table({"messages": [columns]}), project.folder / "in.parquet")
    config = project.config(project.source("in.parquet", family="agent"))
    project.index(config)
    assert project.records(config)[0].parts == parts


def test_results_in_results_have_an_end() -> None:
    part: dict[str, object] = {"type": "tool_result", "content": "x"}
    for _ in range(300):
        part = {"type": "tool_result", "content": [part]}
    with pytest.raises(FieldProblem, match="nested too deeply"):
        text_of(blocks(part))


def test_placeholders_are_counted_and_told(project: Project) -> None:
    project.lines("a.jsonl", *({"messages": [blocks(IMAGE, {**TEXT, "text": f"{i}"})]} for i in range(3)))
    project.lines("b.jsonl", {"messages": [blocks({"type": "video"}, TEXT)]}, {"messages": [blocks(TEXT)]})
    config = project.config(project.source(["a.jsonl", "b.jsonl"], family="agent"))
    told: list[str] = []

    class Told(Quiet):
        def note(self, text: str) -> None:
            told.append(text)

    for _ in range(2):  # the second time nothing is read again
        summary = build_index(config, project.run, Told())
        assert summary["sources"]["s"]["placeholders"] == {"image_url": 3, "video": 1}
        assert told[-1] == "  s: of parts that are not text, judges see only a placeholder: 3 image_url, 1 video"
