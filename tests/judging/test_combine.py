"""From a reply to a judgement: where the answer stands, and when there is none."""

import pytest

from mira.judging.combine import read_judgement
from mira.llm.responses.reply import Reply
from mira.unscored import Unscored

NAMES = ("One", "Two")
WHOLE = (
    "[A1] One: 8/10 — good\n[A2] Two: 3/10 — bad\noverall: 71\ntraining_recommendation: keep\ndomain_tag: t\nbrief: b"
)


def read(reply: Reply):
    return read_judgement(reply, NAMES, id="r", source="s", replicate=0, judge="j", notes=("cut:5",))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_a_whole_answer_filed_under_reasoning_is_read(field):
    body = {"choices": [{"message": {"content": None, field: WHOLE}, "finish_reason": "stop"}]}
    judgement = read(Reply.from_completion(body))
    assert judgement.scores == (8, 3)
    assert judgement.notes == ("cut:5", "answer_in_reasoning")


@pytest.mark.parametrize(
    "reasoning",
    ["[A1] One: 8/10 — good", f"Let me see.\n{WHOLE}\nBut is it?", f"<think>x</think>\n{WHOLE}\n</think>", ""],
    ids=["a part", "a draft", "with markers", "nothing"],
)
def test_reasoning_that_is_not_a_whole_answer_is_not_read(reasoning):
    judgement = read(Reply("", "stop", reasoning=reasoning))
    assert judgement.scores == (None, None)
    assert judgement.reason_unscored is Unscored.UNPARSABLE


def test_reasoning_beside_an_answer_is_not_read():
    assert read(Reply(WHOLE.replace("8/10", "2/10"), "stop", reasoning=WHOLE)).scores == (2, 3)
