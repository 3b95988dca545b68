"""Faults that look like good text."""

import pytest

from mira.corpus.families import render
from mira.corpus.record import Part, Record
from mira.distillation.encoder.trace import read_trace
from mira.evaluation.planted import plant_subtle
from mira.evaluation.subtle_faults import NotPlanted, SubtleFault, spoil, subtle_faults_of
from mira.family import FamilyName

PROSE = (
    "The worker is started by the scheduler every hour.\n\nIt can not be stopped while a task runs in it.\n\n"
    "Each task should return a value that others will read.\n\nFailures are logged and must be looked at by somebody."
)
OTHER = "Bread is baked in an oven at noon.\n\nThe dough should rest for an hour.\n\nEat it warm, with butter on it."


def text(content: str, id: str = "t1") -> Record:
    return Record(id, "docs", FamilyName.TEXT, (Part("", content),))


def pair(question: str, answer: str, id: str = "q1") -> Record:
    return Record(id, "faq", FamilyName.QA, (Part("Question", question), Part("Answer", answer)))


def trace(*results: str, last: str = "") -> Record:
    messages = [{"role": "user", "content": "Look."}]
    for i, result in enumerate(results):
        call = {"id": f"c{i}", "function": {"name": "look", "arguments": f'{{"at": {i}, "in": "room {i}"}}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{i}", "content": result})
    if last:
        messages.append({"role": "assistant", "content": last})
    return Record("a1", "traces", FamilyName.AGENT, render(FamilyName.AGENT, {"messages": messages}, {}))


def spoiled(record: Record, fault: SubtleFault, *others: Record, seed: int = 0) -> Record:
    copy = spoil(record, fault, others, seed)
    assert isinstance(copy, Record), copy
    assert copy.id == f"{record.id}~{fault}" and copy.n_tokens == 0 and copy.parts != record.parts
    assert copy == spoil(record, fault, others, seed)
    return copy


def test_statements_say_the_opposite() -> None:
    seen = {spoiled(text(PROSE), SubtleFault.NEGATED, seed=seed).text for seed in range(20)}
    assert len(seen) > 5
    words = set(PROSE.split())
    assert all(set(copy.split()) - words <= {"not"} for copy in seen)
    assert any("It can be stopped" in copy for copy in seen) and any("worker is not started" in copy for copy in seen)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("Short.", NotPlanted.FEW_STATEMENTS),
        ("if a is None:\n    b = 1\nc = a is b\n", NotPlanted.CODE),
        ("```\nthis is what it is and was\n```\n", NotPlanted.FEW_STATEMENTS),
    ],
)
def test_what_cannot_be_negated(content: str, why: NotPlanted) -> None:
    assert spoil(text(content), SubtleFault.NEGATED, ()) == why


def test_every_second_paragraph_is_of_another_record() -> None:
    short = text("One.", "t0")
    copy = spoiled(text(PROSE), SubtleFault.OTHER_PARAGRAPHS, short, text(OTHER, "t2"))
    mixed, own, other = (t.split("\n\n") for t in (copy.text, PROSE, OTHER))
    assert mixed == [own[0], other[0], own[2], other[1]]
    assert spoil(text(PROSE), SubtleFault.OTHER_PARAGRAPHS, (short,)) == NotPlanted.FEW_PARAGRAPHS
    assert spoil(text(OTHER), SubtleFault.OTHER_PARAGRAPHS, (text(PROSE),)) == NotPlanted.FEW_PARAGRAPHS
    assert spoil(text("a = 1\n\nb = 2\n\nc = 3\n\nd = 4\n"), SubtleFault.OTHER_PARAGRAPHS, ()) == NotPlanted.CODE


def test_one_token_of_the_code_of_an_answer() -> None:
    answer = "So:\n\n```python\nx = a == b\n```\n"
    copy = spoiled(pair("How?", answer), SubtleFault.CODE_MUTANT)
    assert copy.parts[1].text == answer.replace("==", "!=") and copy.parts[0].text == "How?"
    assert spoil(pair("How?", "Just so."), SubtleFault.CODE_MUTANT, ()) == NotPlanted.NO_PYTHON
    assert spoil(pair("How?", "```\nx\n```\n"), SubtleFault.CODE_MUTANT, ()) == NotPlanted.NO_MUTANT


def test_the_answer_to_the_most_similar_question() -> None:
    near = pair("How is a worker stopped?", "Press a key.", "q2")
    far = pair("What do cats eat?", "Fish.", "q3")
    same = pair("How is a worker started?", "Call it.", "q4")
    copy = spoiled(pair("How is a worker started?", "Call it."), SubtleFault.NEAR_ANSWER, far, near, same)
    assert copy.parts[1].text == "Press a key."
    assert spoil(pair("How?", "Call it."), SubtleFault.NEAR_ANSWER, (same,)) == NotPlanted.NO_OTHER_ANSWER


def test_a_failed_call_is_reported_as_success() -> None:
    copy = spoiled(trace("saw 0", "saw 1", "error: dark", last="All seen."), SubtleFault.FALSE_SUCCESS)
    results = [call.result or "" for call in read_trace(copy.parts).calls]
    assert results[0] == "saw 0" and "permission denied" in results[1] and copy.parts[-1].text == "All seen."
    claimed = spoiled(trace("saw 0"), SubtleFault.FALSE_SUCCESS)
    assert claimed.parts[-1].label == "[3] assistant" and "worked as expected" in claimed.parts[-1].text
    assert spoil(trace("Traceback: no"), SubtleFault.FALSE_SUCCESS, ()) == NotPlanted.NO_CALL


def test_an_argument_is_another_value_and_the_result_stays() -> None:
    before = [(c.arguments, c.result) for c in read_trace(trace("saw 0", "saw 1").parts).calls]
    for seed in range(8):
        copy = spoiled(trace("saw 0", "saw 1"), SubtleFault.WRONG_ARGUMENT, seed=seed)
        after = [(c.arguments, c.result) for c in read_trace(copy.parts).calls]
        assert [r for _, r in after] == ["saw 0", "saw 1"]
        assert sum(a != b for a, b in zip(after, before, strict=True)) == 1


def test_pairs_and_records_that_cannot_be_spoiled_add_up() -> None:
    records = [text(PROSE), text(OTHER, "t2"), text("Short.", "t3"), pair("How?", "Just so."), trace("saw 0")]
    planted = plant_subtle(records)
    for fault in SubtleFault:
        of_family = sum(fault in subtle_faults_of(r.family) for r in records)
        pairs = sum(p.fault == fault for p in planted.pairs)
        assert pairs + sum(planted.skipped.get(fault, {}).values()) == of_family
    assert plant_subtle(records) == planted
    assert planted.joined(planted).skipped["negated"] == {"few_statements": 4}
