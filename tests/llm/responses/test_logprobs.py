"""Log-probabilities in the forms in which servers give them."""

import math

import pytest

from mira.llm.responses.logprobs import read_places

CHAT = {
    "content": [
        {
            "token": "8",
            "logprob": -0.1,
            "top_logprobs": [{"token": "8", "logprob": -0.1}, {"token": "7", "logprob": -2}],
        },
        {"token": "/10", "logprob": -0.01, "top_logprobs": []},
    ]
}
OLD = {"tokens": ["8", "/10"], "token_logprobs": [-0.1, -0.01], "top_logprobs": [{"8": -0.1, "7": -2}, {}]}
PLACES = [("8", -0.1, [("8", -0.1), ("7", -2.0)]), ("/10", -0.01, [])]


@pytest.mark.parametrize("form", [CHAT, OLD], ids=["chat", "old completions"])
def test_forms(form):
    assert read_places(form, "8/10") == PLACES


def test_old_form_without_alternatives():
    assert read_places({"tokens": ["8"], "token_logprobs": [-0.1]}, "8") == [("8", -0.1, [])]


@pytest.mark.parametrize(
    ("tokens", "text", "plain"),
    [
        (["[A1]", "Ġ8", "Ċ", "âĢĶ"], "[A1] 8\n—", ["[A1]", " 8", "\n", "—"]),
        (["[A1]", "▁8", "<0x0A>", "—"], "[A1] 8\n—", ["[A1]", " 8", "\n", "—"]),
        (["Ġ", "8"], "Ġ8", ["Ġ", "8"]),
    ],
    ids=["byte-level", "SentencePiece", "the letter itself"],
)
def test_raw_pieces_become_text(tokens, text, plain):
    form = {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens)}
    assert [token for token, _, _ in read_places(form, text)] == plain


@pytest.mark.parametrize("odd", [None, math.nan, -math.inf, "-0.1", True])
def test_a_log_probability_that_is_no_finite_number_is_unknown(odd):
    top = [{"token": "7", "logprob": odd}, {"token": "8", "logprob": -1}]
    places = read_places({"content": [{"token": "8", "logprob": odd, "top_logprobs": top}]}, "8")
    assert places == [("8", None, [("8", -1.0)])]


@pytest.mark.parametrize(
    "form",
    [None, 7, [], {}, {"content": None}, {"content": [7]}, {"content": [{"logprob": -1}]},
     {"tokens": ["a", "b"], "token_logprobs": [-1]}, {"tokens": "ab"}],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out(form):
    assert read_places(form, "ab") == []
