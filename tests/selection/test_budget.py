import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.errors import BudgetError
from mira.selection.budget import Share, split

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
