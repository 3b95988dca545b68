import re

import pytest

from mira.config.settings import SelectSettings
from mira.config.tokens import Tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("50%", 500), ("12.5%", 125), ("100%", 1000), ("0%", 0), ("25B", 25 * 10**9), ("1.5k", 1500), ("300M", 3 * 10**8),
     (7, 7), ("7", 7), ("1e6", 10**6), ("2.5e9", 2_500_000_000), ("1E+3", 1000), (1e9, 10**9), ("5B", 5 * 10**9),
     (".5%", 5), ("5.", 5), (2.5, 2), ("1,000", 1000), ("1_000", 1000), ("2T", 2 * 10**12), (" 3 m ", 3 * 10**6)],
)  # fmt: skip
def test_a_budget_is_a_share_or_a_count(text, tokens):
    assert Tokens.parse(text).of(1000) == tokens


@pytest.mark.parametrize(
    "text", ["", "half", "-5", "-5%", "120%", "5 B tokens", "0x10", "1e3k", "1e999", "1e30", "0.5", -1.5, 1e30]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Tokens.parse(text)


@pytest.mark.parametrize("nothing", [0, "0", "0%", "0B", "0.0"])
def test_a_budget_of_nothing_is_refused_but_not_a_cap(nothing):
    with pytest.raises(ValueError, match="keeps nothing"):
        SelectSettings(budget=nothing)
    assert SelectSettings(source_max={"docs": nothing}).source_max["docs"].of(1000) == 0


def test_not_a_number_is_not_a_budget():
    for wrong in (float("nan"), float("inf"), True, None, [1]):
        with pytest.raises(ValueError, match=r"number of tokens|expected a share"):
            Tokens.parse(wrong)
