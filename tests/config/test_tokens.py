import re

import pytest

from mira.config.tokens import Tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("50%", 500), ("12.5%", 125), ("100%", 1000), ("0%", 0), ("25B", 25 * 10**9), ("1.5k", 1500), ("300M", 3 * 10**8),
     (7, 7), ("7", 7), ("1,000", 1000), ("1_000", 1000), ("2T", 2 * 10**12), (" 3 m ", 3 * 10**6)],
)  # fmt: skip
def test_a_budget_is_a_share_or_a_count(text, tokens):
    assert Tokens.parse(text).of(1000) == tokens


@pytest.mark.parametrize("text", ["", "half", "-5", "-5%", "120%", "5 B tokens", "0x10"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Tokens.parse(text)
