"""Finish reasons of many servers."""

import pytest

from mira.llm.responses.finish import Ending, ending
from mira.llm.responses.reply import FailedReply, Reply


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("stop", Ending.WHOLE), ("MAX_TOKENS", Ending.CUT), ("FinishReason.MAX_TOKENS", Ending.CUT),
        ("model_length", Ending.CUT), ("SAFETY", Ending.REFUSED), ("network_error", Ending.FAILED),
        ("", Ending.UNKNOWN),
    ],
)  # fmt: skip
def test_ending(reason, kind):
    assert ending(reason) is kind


@pytest.mark.parametrize("choice", [{"finish_reason": "abort"}, {"finish_reason": "stop", "error": {"code": 502}}])
def test_failed_generation_is_no_reply(choice):
    with pytest.raises(FailedReply):
        Reply.from_completion({"choices": [{"message": {"content": "x"}, **choice}]})


def test_details_beside_the_text_do_not_matter():
    body = {"choices": [{"message": {"content": "a\ud83d"}, "finish_reason": None, "logprobs": 7}], "usage": [1]}
    assert Reply.from_completion(body) == Reply("a\ufffd", "")
