import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.config.tokens import parse_tokens
from mira.errors import BudgetError, ConfigError
from mira.selection.budget import Share, split


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("50%", 500), ("12.5%", 125), ("100%", 1000), ("0%", 0), ("25B", 25 * 10**9), ("1.5k", 1500), ("300M", 3 * 10**8),
     (7, 7), ("7", 7), ("1,000", 1000), ("1_000", 1000), ("2T", 2 * 10**12), (" 3 m ", 3 * 10**6)],
)  # fmt: skip
def test_a_budget_is_a_share_or_a_count(text, tokens):
    assert parse_tokens(text, 1000, "select.budget") == tokens


@pytest.mark.parametrize("text", ["", "half", "-5", "-5%", "120%", "5 B tokens", "0x10", -3])
def test_anything_else_is_refused_by_name(text):
    with pytest.raises(ConfigError, match=r"select\.budget"):
        parse_tokens(text, 1000, "select.budget")


SHARES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.tuples(st.integers(1, 10**6), st.integers(0, 10**4), st.integers(0, 10**6)).map(
        lambda t: Share(t[0], t[1], t[1] + t[2])
    ),
    min_size=1,
    max_size=6,
)


@given(SHARES, st.floats(0, 1))
def test_a_split_adds_up_within_bounds_and_is_proportional_between_them(shares, at):
    least, most = sum(s.least for s in shares.values()), sum(s.most for s in shares.values())
    budget = int(least + at * (most - least))
    parts = split(budget, shares, "here")
    assert sum(parts.values()) == budget
    assert all(s.least <= parts[n] <= s.most for n, s in shares.items())
    free = [(parts[n], s.weight) for n, s in shares.items() if s.least + 1 < parts[n] < s.most - 1]
    for tokens, weight in free:
        for other, heavier in free:
            assert abs(tokens * heavier - other * weight) <= weight + heavier


def test_without_bounds_in_the_way_it_is_the_plain_proportion():
    shares = {"a": Share(100, 0, 100), "b": Share(300, 0, 300)}
    assert split(200, shares, "here") == {"a": 50, "b": 150}


@pytest.mark.parametrize(("budget", "setting"), [(5, "source_min"), (500, "source_max")])
def test_bounds_that_contradict_the_budget_are_told_with_numbers(budget, setting):
    with pytest.raises(BudgetError, match=f"(?s){budget}.*{setting}"):
        split(budget, {"a": Share(10, 6, 40), "b": Share(10, 0, 50)}, "here")
