"""The intervals of weighted shares, on populations whose shares are known."""

import numpy as np
import pytest

from mira.reviewing.estimates import Judged, share
from mira.reviewing.strata import Cell, Stratum, allocate, stratify, weights


def judged(strata: list[str], sizes: list[int], inclusion: list[float]) -> Judged:
    return Judged.of(strata, sizes, inclusion)


def test_a_census_has_no_doubt() -> None:
    keep = np.array([1.0, 1.0, 1.0, 0.0])
    found = share(judged(["a"] * 4, [4] * 4, [1.0] * 4), keep, np.ones(4), 0.95)
    assert found is not None
    assert found[0] == 0.75


def test_records_count_by_what_they_stand_for() -> None:
    # Stratum a: 2 of 100 records, both kept by people; stratum b: 2 of 10, neither.
    found = share(judged(["a", "a", "b", "b"], [100, 100, 10, 10], [0.02, 0.02, 0.2, 0.2]),
                  np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4), 0.95)  # fmt: skip
    assert found is not None
    assert found[0] == pytest.approx(100 / 110)


def test_where_all_agree_there_is_doubt_all_the_same() -> None:
    ones = np.ones(20)
    found = share(judged(["a"] * 20, [1000] * 20, [0.02] * 20), ones, ones, 0.95)
    assert found is not None
    value, low, high = found
    assert value == high == 1.0
    assert low == pytest.approx(0.839, abs=0.001)  # Wilson's of 20 of 20


def test_nothing_in_the_denominator_is_unknown() -> None:
    assert share(judged(["a"], [5], [0.2]), np.zeros(1), np.zeros(1), 0.95) is None


def population(rng: np.random.Generator) -> tuple[list[Cell], np.ndarray, np.ndarray]:
    """Six sources of 6,000 records, half of each kept by a quality that people follow in part."""
    n = 6000
    source = rng.choice(6, n, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    quality = rng.normal(0.1 * source, 1.0)
    keep = rng.random(n) < 1 / (1 + np.exp(-1 - 2 * quality))
    kept, near = np.zeros(n, bool), np.zeros(n, bool)
    for s in range(6):
        own = source == s
        kept[own] = quality[own] >= np.median(quality[own])
        near |= own & kept & (quality <= np.quantile(quality[own & kept], 0.25))
        near |= own & ~kept & (quality >= np.quantile(quality[own & ~kept], 0.75))
    labelled = rng.random(n) < 0.05
    rows = zip(source, kept, near, labelled, strict=True)
    return [Cell(f"s{s}", bool(k), "near" if c else "far", bool(b)) for s, k, c, b in rows], kept, keep


@pytest.mark.parametrize(("drawn", "answered"), [(100, 100), (200, 60), (200, 200)])
def test_intervals_hold_the_truth_as_often_as_they_say(drawn: int, answered: int) -> None:
    """Also where reviewers have judged only a part of the sample, in the order of a hash."""
    rng = np.random.default_rng(7)
    cells, kept, keep = population(rng)
    counts = {cell: cells.count(cell) for cell in set(cells)}
    stratum_of = stratify(counts, drawn)
    parts = weights(counts, near=0.5, labelled=0.2)
    strata: dict[str, Stratum] = {}
    for cell, n in counts.items():
        before = strata.get(stratum_of[cell], Stratum(stratum_of[cell], 0, 0.0))
        strata[before.name] = Stratum(before.name, before.records + n, before.weight + parts[cell])
    sizes = allocate(strata.values(), drawn)
    names = np.array([stratum_of[cell] for cell in cells], dtype=object)
    members = {name: np.flatnonzero(names == name) for name in sizes}
    truth = {"precision": keep[kept].mean(), "recall": (keep & kept).sum() / keep.sum()}
    held = dict.fromkeys(truth, 0)
    errors: dict[str, list[float]] = {name: [] for name in truth}
    repeats = 200
    for _ in range(repeats):
        ids = np.concatenate([rng.choice(members[name], k, replace=False) for name, k in sizes.items()])
        ids = rng.permutation(ids)[:answered]
        own = [str(name) for name in names[ids]]
        found = judged(own, [strata[s].records for s in own], [sizes[s] / strata[s].records for s in own])
        y, x = keep[ids].astype(float), kept[ids].astype(float)
        for name, whole in (("precision", x), ("recall", y)):
            estimate = share(found, x * y, whole, 0.95)
            assert estimate is not None
            held[name] += estimate[1] <= truth[name] <= estimate[2]
            errors[name].append(estimate[0] - truth[name])
    for name in truth:
        assert held[name] >= 0.9 * repeats, (name, held[name])
        assert abs(np.mean(errors[name])) < 3 * np.std(errors[name]) / np.sqrt(repeats) + 0.01, name


def test_weights_matter() -> None:
    """Without them, a sample that is richer near the threshold would give another precision."""
    rng = np.random.default_rng(3)
    n = 20_000
    near = rng.random(n) < 0.1
    keep = rng.random(n) < np.where(near, 0.5, 0.95)
    found = []
    for _ in range(50):
        ids = np.concatenate([rng.choice(np.flatnonzero(near), 100), rng.choice(np.flatnonzero(~near), 100)])
        strata = ["near"] * 100 + ["far"] * 100
        size = [int(near.sum())] * 100 + [int((~near).sum())] * 100
        one = share(judged(strata, size, [100 / s for s in size]), keep[ids].astype(float), np.ones(200), 0.95)
        assert one is not None
        found.append(one[0])
    assert np.mean(found) == pytest.approx(keep.mean(), abs=0.01)
    assert keep.mean() > 0.88  # while the plain share of the sample is about 0.72
