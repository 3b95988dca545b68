"""Faults of questions with answers, and of traces."""

import pytest

from mira.corpus.families import render
from mira.corpus.record import Part, Record
from mira.distillation.encoder.trace import read_trace
from mira.evaluation.family_faults import AgentFault, QaFault
from mira.evaluation.faults import Fault, degrade, faults_of
from mira.evaluation.planted import plant
from mira.family import FamilyName

CODE = "Use it so:\n\n```python\nif a == 1:\n    return True\n```\n\nThat is all there is to say."


def pair(id: str = "q1", question: str = "How is it used?", answer: str = CODE) -> Record:
    return Record(id, "faq", FamilyName.QA, (Part("Question", question), Part("Answer", answer)), n_tokens=50)


def trace(n: int = 3, id: str = "t1") -> Record:
    messages = [{"role": "user", "content": "Look three times."}]
    for i in range(n):
        call = {"id": f"c{i}", "function": {"name": "look", "arguments": f'{{"at": {i}}}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{i}", "content": f"saw {i}"})
    return Record(id, "traces", FamilyName.AGENT, render(FamilyName.AGENT, {"messages": messages}, {}))


def test_each_family_has_its_faults() -> None:
    assert faults_of(FamilyName.TEXT) == tuple(Fault)
    assert faults_of(FamilyName.QA) == faults_of(FamilyName.QA_WITH_THINK) == tuple(QaFault)
    assert faults_of(FamilyName.AGENT) == tuple(AgentFault)
    pairs = plant([pair(), pair("q2", "Why?", "Because it is so."), trace()])
    found = [(p.original.id, p.fault) for p in pairs]
    assert {f for i, f in found if i == "q1"} == set(QaFault) and {f for i, f in found if i == "t1"} == set(AgentFault)
    assert ("q2", QaFault.WRONG_CODE) not in found
    assert pairs == plant([pair(), pair("q2", "Why?", "Because it is so."), trace()])


@pytest.mark.parametrize("fault", list(QaFault))
def test_the_question_stays_and_the_answer_is_spoiled(fault: QaFault) -> None:
    other = pair("q2", "Why?", "Because it is so.")
    copy = degrade(pair(), fault, other=other)
    assert copy and copy.id == f"q1~{fault}" and copy.n_tokens == 0
    question, answer = (p.text for p in copy.parts)
    assert question == "How is it used?" and answer != CODE
    if fault == QaFault.OTHER_ANSWER:
        assert answer == "Because it is so."
    elif fault == QaFault.QUESTION_REPEATED:
        assert answer == question
    elif fault == QaFault.ANSWER_CUT:
        assert CODE.startswith(answer) and len(answer) <= len(CODE) / 3
    else:
        assert answer.startswith("Use it so:") and answer.endswith("to say.") and "if a" in answer
        assert "!=" in answer or "False" in answer


def test_a_pair_that_cannot_be_spoiled() -> None:
    assert degrade(pair(), QaFault.OTHER_ANSWER) is None
    assert degrade(pair(), QaFault.OTHER_ANSWER, other=pair()) is None
    assert degrade(pair(answer="no code"), QaFault.WRONG_CODE) is None
    assert degrade(pair(answer="no"), QaFault.ANSWER_CUT) is None


def results(record: Record) -> list[tuple[str, str | None]]:
    return [(c.arguments, c.result) for c in read_trace(record.parts).calls]


def test_what_becomes_of_the_calls() -> None:
    def spoiled(fault: AgentFault) -> Record:
        copy = degrade(trace(), fault)
        assert copy is not None
        labels = [int(p.label[1 : p.label.index("]")]) for p in copy.parts]
        assert labels == list(range(len(labels)))
        return copy

    before = results(trace())
    assert len(results(spoiled(AgentFault.CALL_DROPPED))) == 2
    swapped = results(spoiled(AgentFault.RESULTS_SWAPPED))
    assert swapped != before and sorted(r or "" for _, r in swapped) == ["saw 0", "saw 1", "saw 2"]
    assert [a for a, _ in swapped] == [a for a, _ in before]
    assert sum("error" in (r or "") for _, r in results(spoiled(AgentFault.ERROR_IGNORED))) == 1
    looped = results(spoiled(AgentFault.LOOP))
    assert len(looped) == 6 and len(set(looped)) == 3
    claimed = spoiled(AgentFault.SUCCESS_CLAIMED)
    assert results(claimed) == before[:2] and "successfully" in claimed.parts[-1].text


def test_a_trace_that_cannot_be_spoiled() -> None:
    assert all(degrade(trace(0), fault) is None for fault in AgentFault)
    assert degrade(trace(1), AgentFault.RESULTS_SWAPPED) is None
