"""Finish reasons of many servers."""

import pytest

from mira.llm.responses.finish import Ending, ending
from mira.llm.responses.reply import FailedReply, Reply


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("stop", Ending.WHOLE), ("MAX_TOKENS", Ending.CUT), ("FinishReason.MAX_TOKENS", Ending.CUT),
        ("model_length", Ending.CUT), ("SAFETY", Ending.REFUSED), ("network_error", Ending.FAILED),
        ("", Ending.UNKNOWN), ("maxTokens", Ending.CUT),
        ("time_limit", Ending.CUT), ("ContentFiltered", Ending.REFUSED),
        ("UNEXPECTED_TOOL_CALL", Ending.FAILED),
        ("FINISH_REASON_SAFETY", Ending.REFUSED), ("tool_calls", Ending.UNKNOWN),
    ],
)  # fmt: skip
def test_ending(reason, kind):
    assert ending(reason) is kind


@pytest.mark.parametrize("choice", [{"finish_reason": "abort"}, {"finish_reason": "stop", "error": {"code": 502}}])
def test_failed_generation_is_no_reply(choice):
    with pytest.raises(FailedReply):
        Reply.from_completion({"choices": [{"message": {"content": "x"}, **choice}]})


def test_finish_reason_as_an_object():
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": {"type": "length", "length": 8}}]}
    assert Reply.from_completion(body).truncated


def test_a_failed_generation_says_what_it_took():
    choice = {"message": {"content": "x"}, "finish_reason": "error"}
    with pytest.raises(FailedReply) as failure:
        Reply.from_completion({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    assert failure.value.usage == (7, 3)


def test_details_beside_the_text_do_not_matter():
    body = {"choices": [{"message": {"content": "a\ud83d"}, "finish_reason": None, "logprobs": 7}], "usage": [1]}
    assert Reply.from_completion(body) == Reply("a\ufffd", "")
