"""Token counts that servers send, and what is paid for where they cannot be."""

import pytest

from mira.llm.responses.usage import billed_tokens, read_usage


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, (10, 5)),
        ({"input_tokens": "10", "output_tokens": 5.0}, (10, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45, "reasoning_tokens": 30}, (10, 35)),
        ({"prompt_tokens": -1, "completion_tokens": 10**30}, (0, 0)),
        ({"prompt_tokens": True, "completion_tokens": [1]}, (0, 0)),
        (None, (0, 0)),
        ({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}, (10, 5)),
        ({"tokens": {"input_tokens": 10, "output_tokens": 5}}, (10, 5)),
        ({"billed_units": {"input_tokens": 10, "output_tokens": 5}}, (10, 5)),
        ({"input_token_count": 10, "generated_token_count": 5}, (10, 5)),
        ("many", (0, 0)),
    ],
)
def test_usage(usage, counts):
    assert read_usage(usage) == counts


def test_what_cannot_be_is_estimated_and_clamped():
    assert billed_tokens((0, 0), 100, "x" * 300, 2048) == (100, 100)
    assert billed_tokens((100, 90), 100, "x" * 300, 2048) == (100, 90)
    assert billed_tokens((100, 0), 100, "x" * 300, 2048, count=lambda text: 37) == (100, 37)
    assert billed_tokens((2**31, 2**31), 100, "x" * 300, 2048) == (100, 2048)
