import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.selection import cuts
from mira.selection.cuts import ALL, Chunk, Problem, find_cutoffs, merge, tally
from mira.selection.ordering import rank_keys, value_of_key
from mira.selection.units import Unit

# few distinct values, so that ties are the rule
VALUE = st.one_of(st.sampled_from([0.0, 1.0, 1.0000001, -3.5]), st.floats(-1e6, 1e6))
A, B, C = UNITS = [Unit(name) for name in "abc"]
RECORD = st.tuples(st.sampled_from(UNITS), VALUE, st.integers(0, 2**64 - 1), st.integers(1, 50))


def chunks_of(records, shards):
    parts = {}
    for at, (source, value, tie, tokens) in enumerate(records):
        parts.setdefault((source, shards[at % len(shards)]), []).append((value, tie, tokens))
    for (source, _), rows in sorted(parts.items(), key=lambda item: str(item[0])):
        values, ties, tokens = zip(*rows, strict=True)
        yield source, Chunk(rank_keys(np.array(values)), np.array(ties, np.uint64), np.array(tokens, np.int64))


def sweeper(records, shards):
    def sweep(wanted):
        for source, chunk in chunks_of(records, shards):
            if source in wanted:
                yield source, [merge([tally(i, chunk)], i) for i in wanted[source]]

    return sweep


def kept(cutoff, records):
    keys = rank_keys(np.array([r[1] for r in records]))
    return cutoff.keeps(keys, np.array([r[2] for r in records], np.uint64))


def prefix(records, budget, clip=lambda tokens: sum(tokens.values())):
    """The longest prefix of the ranking that fits, by brute force; records of one key go together."""
    order = sorted({(-r[1] + 0.0, r[2]) for r in records})
    best = set()
    for end in range(len(order) + 1):
        chosen = set(order[:end])
        tokens = dict.fromkeys(UNITS, 0)
        for r in records:
            tokens[r[0]] += r[3] * ((-r[1] + 0.0, r[2]) in chosen)
        if clip(tokens) > budget:
            break
        best = chosen
    return [(-r[1] + 0.0, r[2]) in best for r in records]


@settings(max_examples=200)
@given(
    st.lists(RECORD, min_size=1, max_size=40), st.integers(0, 1200), st.lists(st.integers(0, 3), min_size=1, max_size=7)
)
def test_a_cutoff_is_the_longest_prefix_whatever_the_shards(records, budget, shards):
    for fetch in (0, 4, 50_000):
        cuts._FETCH, before = fetch, cuts._FETCH
        try:
            found = find_cutoffs([Problem((A, B, C), budget)], sweeper(records, shards))[0]
        finally:
            cuts._FETCH = before
        assert kept(found.cutoff, records).tolist() == prefix(records, budget)
        if found.cutoff != ALL:
            assert found.tokens == sum(r[3] for r, k in zip(records, kept(found.cutoff, records), strict=True) if k)


@given(st.lists(RECORD, min_size=1, max_size=25), st.integers(0, 600), st.integers(0, 100), st.integers(0, 100))
def test_limits_hold_a_source_while_the_cutoff_moves(records, budget, low, extra):
    low = min(low, budget)
    problem = Problem((A, B, C), budget, {B: (low, low + extra)})
    found = find_cutoffs([problem], sweeper(records, [0, 1]))[0]

    def clip(tokens):
        return tokens[A] + tokens[C] + min(max(tokens[B], low), low + extra)

    assert kept(found.cutoff, records).tolist() == prefix(records, budget, clip)


def test_problems_are_solved_together_in_the_same_sweeps():
    rng = np.random.default_rng(0)
    records = [(UNITS[i % 3], float(rng.normal()), int(rng.integers(2**63)), 7) for i in range(300)]
    calls = []

    def sweep(wanted):
        calls.append(wanted)
        return sweeper(records, [0, 1, 2])(wanted)

    together = find_cutoffs([Problem((s,), 300) for s in UNITS], sweep)
    assert len(calls) == 2
    assert together == [find_cutoffs([Problem((s,), 300)], sweeper(records, [0]))[0] for s in UNITS]


def walk(records, budget, limits):
    """What `skip` keeps, by walking the ranking: a record is kept if it fits, without what other floors still need."""
    tokens, kept = dict.fromkeys(UNITS, 0), []
    for unit, value, tie, n in sorted(records, key=lambda r: (-r[1] + 0.0, r[2])):
        after = tokens | {unit: tokens[unit] + n}
        reserved = sum(max(t, limits.get(u, (0, 0))[0]) for u, t in after.items())
        if reserved <= budget and after[unit] <= limits.get(unit, (0, 2**62))[1]:
            tokens = after
            kept.append((unit, value, tie, n))
    return sorted(kept), sum(tokens.values())


@st.composite
def worlds(draw):
    size = draw(st.integers(1, 120))
    ties = draw(st.lists(st.integers(0, 2**64 - 1), min_size=size, max_size=size, unique=True))
    tokens = st.one_of(st.integers(0, 60), st.integers(0, 3), st.sampled_from([1, 500, 2_000]))
    records = [(draw(st.sampled_from(UNITS)), draw(VALUE), tie, draw(tokens)) for tie in ties]
    budget, limits = draw(st.integers(0, 1200)), {}
    for unit in draw(st.sets(st.sampled_from(UNITS))):
        low = draw(st.integers(0, budget // 3))
        limits[unit] = (low, low + draw(st.integers(0, 400)))
    return records, budget, limits


@settings(max_examples=60, deadline=None)
@given(worlds(), st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_skip_keeps_what_a_walk_keeps_whatever_the_shards(world, shards):
    records, budget, limits = world
    for fetch in (0, 3, 50_000):
        cuts._FETCH, before = fetch, cuts._FETCH
        try:
            found = find_cutoffs([Problem((A, B, C), budget, limits, skip=True)], sweeper(records, shards))[0]
        finally:
            cuts._FETCH = before
        keys = rank_keys(np.array([r[1] for r in records]))
        ties, tokens = np.array([r[2] for r in records], np.uint64), np.array([r[3] for r in records])
        by_unit = {unit: steps.keeps(keys, ties, tokens) for unit, steps in found.units.items()}
        chosen = sorted(r for at, r in enumerate(records) if by_unit[r[0]][at])
        assert (chosen, found.tokens) == walk(records, budget, limits)


def test_skip_keeps_what_an_earlier_fetch_settled(monkeypatch):
    """A later interval may reach back over records that are settled: its steps must not begin before them."""
    values = [4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, -3.5, -3.5, -3.5, -3.5]
    ties = [392, 44891996832, 6432, 2160, 0, 261447486, 479001600, 35184372088833, 296, 337, 1185, 67812]
    tokens = [59, 34, 2, 3, 57, 1, 1, 1, 2, 3, 1, 1]
    records = [(A, *record) for record in zip(values, ties, tokens, strict=True)]
    monkeypatch.setattr(cuts, "_FETCH", 3)
    limits = {C: (28, 208)}
    found = find_cutoffs([Problem((A, B, C), 189, limits, skip=True)], sweeper(records, [0]))[0]
    kept = found.units[A].keeps(rank_keys(np.array(values)), np.array(ties, np.uint64), np.array(tokens))
    chosen = sorted(record for record, keep in zip(records, kept, strict=True) if keep)
    assert (chosen, found.tokens) == walk(records, 189, limits)
    assert (A, -3.5, 1185, 1) in chosen


def test_skip_takes_records_of_one_key_together():
    records = [(A, 1.0, 7, 60), (A, 1.0, 7, 60), (B, 0.5, 9, 70), (C, 0.4, 3, 40), (C, 0.3, 3, 30)]
    found = find_cutoffs([Problem((A, B, C), 100, skip=True)], sweeper(records, [0, 1]))[0]
    kept = [
        found.units[r[0]].keeps(*chunk) for r, (_, chunk) in zip(records, chunks_of(records, range(5)), strict=True)
    ]
    assert [bool(k[0]) for k in kept] == [False, False, True, False, True]
    assert found.cutoff.value == -1 or value_of_key(found.cutoff.value) > 1.0
