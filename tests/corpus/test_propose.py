"""Proposed field mappings are what a person would map: by name, type and length, nested fields too."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.settings import SourceSettings
from mira.corpus.propose import propose
from mira.errors import InputError
from support.corpus_project import Project

LONG = "The lock is released before the queue is empty, so a second worker may take the same job. " * 4
SHORT = "Why is a job taken twice?"
CHINESE = "队列还没有清空,锁就被释放了,所以第二个进程可能会拿到同一个任务。" * 4
CALL = [{"role": "user", "content": "Which files are here?"}, {"role": "assistant", "content": "One: README.md."}]


def _records(value: dict[str, Any], n: int = 6) -> list[dict[str, Any]]:
    """Return similar records: every text and number differs a little."""

    def vary(found: Any, i: int) -> Any:
        if isinstance(found, dict):
            return {key: vary(inner, i) for key, inner in found.items()}
        if isinstance(found, list):
            return [vary(inner, i) for inner in found]
        fixed = isinstance(found, str) and (found in ("user", "assistant", "en") or found.startswith(("http", "[{")))
        return found if fixed or isinstance(found, bool) else f"{found} {i}" if isinstance(found, str) else found + i

    return [vary(value, i) for i in range(n)]


@pytest.mark.parametrize(
    ("family", "fields", "record", "expected"),
    [
        ("text", {}, {"content": LONG, "title": SHORT}, "{text: content}"),
        ("text", {}, {"lang": "en", "heading": SHORT, "markup": LONG}, "{text: markup}"),
        ("text", {}, {"meta": {"url": "http://x.org"}, "doc": {"parts": {"main": LONG}}}, "{text: doc.parts.main}"),
        ("text", {}, {"标题": "锁", "正文": CHINESE}, "{text: 正文}"),
        ("text", {}, {"text": {"value": LONG}}, "{text: text.value}"),
        ("text", {}, {"chunks": [LONG, LONG]}, "{text: chunks.0}"),
        ("text", {"text": "bdy"}, {"body": LONG, "abstract": LONG * 2}, "{text: body}"),
        ("qa", {}, {"title": SHORT, "answers": [{"body": LONG}]}, "{question: title, answer: answers.0.body}"),
        ("qa", {}, {"a": LONG, "q": SHORT, "lang": "en"}, "{question: q, answer: a}"),
        ("qa", {"question": "title"}, {"title": SHORT, "reply": LONG}, "{answer: reply}"),
        ("qa", {}, {"x": {"instruction": SHORT, "output": LONG}}, "{question: x.instruction, answer: x.output}"),
        ("qa_with_think", {}, {"q": SHORT, "response": f"<think>{LONG}</think>2."}, "{question: q, answer: response}"),
        ("qa_with_think", {}, {"x": SHORT, "y": LONG, "z": LONG * 3}, "{question: x, think: z, answer: y}"),
        ("agent", {}, {"meta": {"turns": CALL}}, "{messages: meta.turns}"),
        ("agent", {}, {"log": str(CALL).replace("'", '"')}, "{messages: log}"),
    ],
)  # fmt: skip
def test_the_mapping_that_fits_is_proposed(
    family: str, fields: dict[str, str], record: dict[str, Any], expected: str
) -> None:
    source = SourceSettings.model_validate({"name": "s", "path": "x", "family": family, "fields": fields})
    assert propose(source, _records(record)).startswith(f"Map it with fields: {expected}")


@pytest.mark.parametrize(
    ("family", "record", "expected"),
    [
        ("text", {"messages": CALL}, "family agent: set family: agent"),
        ("text", {"conversation": CALL}, "family agent: set family: agent and fields: {messages: conversation}"),
        ("agent", {"question": SHORT, "answer": LONG}, "family qa: set family: qa"),
        ("qa", {"text": LONG}, "family text: set family: text"),
    ],
)
def test_another_family_is_proposed_where_its_fields_are_there(
    family: str, record: dict[str, Any], expected: str
) -> None:
    source = SourceSettings.model_validate({"name": "s", "path": "x", "family": family})
    assert propose(source, _records(record)).startswith(f"The records look like {expected}")


def test_nothing_is_proposed_of_what_holds_no_text() -> None:
    source = SourceSettings(name="s", path="x")
    for values in ([], [{}], _records({"n": 1, "url": "http://x.org", "flag": True})):
        assert propose(source, values) == ""


def test_a_wrong_type_is_refused_with_a_proposal(project: Project) -> None:
    path = project.lines("in.jsonl", *_records({"text": {"value": LONG}, "id": 4}))
    with pytest.raises(InputError) as caught:
        project.index(project.config(project.source()))
    assert "field 'text' is an object" in str(caught.value)
    config = project.config(project.source(fields={"text": "txt"}))
    with pytest.raises(InputError) as caught:
        project.index(config)
    assert str(caught.value) == (
        f"source 's': field 'txt' is missing in {path}:1; it has: text, id\n"
        "  Map it with fields: {text: text.value} (typical characters: text.value: 362), "
        "or choose another family than text."
    )


def test_columns_of_tables_that_are_not_read_are_proposed(project: Project) -> None:
    rows = _records({"prompt": {"text": SHORT}, "completion": LONG})
    pq.write_table(pa.Table.from_pylist(rows), project.folder / "in.parquet")
    with pytest.raises(
        InputError, match=r"it has: prompt, completion\n.*\{question: prompt.text, answer: completion\}"
    ):
        project.index(project.config(project.source("in.parquet", family="qa")))
