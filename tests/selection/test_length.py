"""Length: what it explains within a source can be taken out of a ranking."""

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mira.cli.tables import print_explanation
from mira.config.settings import SelectSettings
from mira.errors import ConfigError
from mira.pipeline.fingerprints import stage_settings
from mira.run_folder.results import read_result
from mira.selection.explain.explain import explain
from mira.selection.retention import retain
from mira.selection.stage import STAGE
from mira.selection.units import Unit
from mira.selection.values import Summary
from mira.selection.yardstick.cut import cuts_of
from mira.selection.yardstick.figures import Kept
from mira.selection.yardstick.length import NO_FIT, LengthFit, Lengths, LengthSums
from mira.stats import spearman
from support.selection_world import Item, World, words

GROUPS = {"g": ["ant", "bee"]}


def growing(source, n, slope, noise=0.3, seed=0):
    """Items whose scores grow with the logarithm of their length."""
    rng = np.random.default_rng([seed, *source.encode()])
    tokens = rng.integers(4, 200, n)
    scores = 3 + slope * np.log2(tokens / 30) + noise * rng.normal(size=n)
    return [
        Item(f"{source}-{k}", [float(s)] * 4, words(int(t)))
        for k, (s, t) in enumerate(zip(scores, tokens, strict=True))
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    sources = {"ant": [growing("ant", 150, 1.0)], "bee": [growing("bee", 60, -0.5), growing("bee2", 40, -0.5)]}
    return World(tmp_path_factory.mktemp("length"), sources, GROUPS)


def quality_and_tokens(world, source):
    rows = world.rows(source)
    return np.array([r["quality"] for r in rows]), np.array([r["n_tokens"] for r in rows])


@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(-50, 50))
def test_the_line_is_that_of_least_squares_and_sums_of_parts_add_up(seed, slope, level):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 5000, 50)
    values = level + slope * np.log2(tokens) + rng.normal(size=50)
    fit = LengthSums.of(values, tokens).fit
    assert fit.slope == pytest.approx(np.polyfit(np.log2(tokens), values, 1)[0], abs=1e-9)
    rest = fit.rest(values, tokens)
    assert abs(np.corrcoef(rest, np.log2(tokens))[0, 1]) < 1e-9 and rest.mean() == pytest.approx(values.mean())
    parts = (LengthSums.of(values[rows], tokens[rows]) for rows in (slice(37, None), slice(0, 37)))
    assert sum(parts, LengthSums()).fit == fit


def test_records_of_one_length_have_a_flat_line():
    assert LengthSums.of(np.array([1.0, 5.0, 2.0]), np.array([37, 37, 37])).fit == NO_FIT == LengthSums().fit


@given(st.lists(st.integers(1, 40), max_size=200), st.integers(2, 8))
def test_strata_of_lengths_part_all_records_evenly(tokens, most):
    lengths = Lengths.of(np.array(tokens, np.int32))
    strata = lengths.strata(Unit("ant"), most)
    parts = [part for part, _ in strata]
    assert parts[0].shortest == 0 and parts[-1].longest == Unit("ant").longest
    assert all(b.shortest == a.longest + 1 for a, b in itertools.pairwise(parts))
    inside = [[t for t in tokens if part.shortest <= t <= part.longest] for part in parts]
    assert [sum(own) for own in inside] == [n for _, n in strata]
    assert len(parts) <= max(1, min(most, len(tokens) // 20))
    assert len(parts) == 1 or all(inside)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 100), st.sampled_from([2.0, 0.4, -1.0]), st.sampled_from(["global", "source"]))
def test_residual_leaves_no_rank_correlation_with_length_on_linear_data(tmp_path_factory, seed, slope, scope):
    sources = {"ant": [growing("ant", 250, slope, seed=seed)], "bee": [growing("bee", 60, 0.0, seed=seed)]}
    world = World(tmp_path_factory.mktemp("w"), sources, GROUPS)
    told = world.select(scope=scope, length={"control": "residual"}, write_selected=False)
    quality, tokens = quality_and_tokens(world, "ant")
    assert abs(spearman(quality, tokens.astype(float))) > 0.5
    fit = LengthFit(**told["sources"]["ant"]["length"])
    assert fit.slope == pytest.approx(slope, abs=0.1)
    rest = fit.rest(quality, tokens)
    assert abs(spearman(rest, tokens.astype(float))) < 0.13
    assert read_result(Kept, world.run.kept).sources["ant"].length_rho == pytest.approx(
        spearman(rest, tokens.astype(float))
    )
    kept = np.array([r["kept"] for r in world.rows("ant")])
    assert kept.any() and rest[kept].min() >= told["sources"]["ant"]["threshold"] > rest[~kept].max()


@pytest.mark.parametrize("scope", ["global", "group", "source"])
@pytest.mark.parametrize("fit", ["prefix", "skip"])
def test_every_stratum_keeps_the_same_share_up_to_one_record(world, scope, fit):
    free = world.select(scope=scope, fit=fit)
    told = world.select(scope=scope, fit=fit, length={"control": "strata", "strata": 4})
    for source in ("ant", "bee"):
        rows, before = world.rows(source), free["sources"][source]["tokens_kept"]
        entry = told["sources"][source]
        strata = entry["length"]["strata"]
        assert len(strata) == 4 and entry["threshold"] is None and entry["scope"] is not None
        assert sum(s["budget_tokens"] for s in strata) == before
        assert sum(s["tokens_kept"] for s in strata) == entry["tokens_kept"] <= before
        assert sum(s["records_in"] for s in strata) == len(rows)
        share = before / entry["tokens_in"]
        for stratum in strata:
            own = [r for r in rows if stratum["shortest"] <= r["n_tokens"] <= stratum["longest"]]
            kept = [r for r in own if r["kept"]]
            longest = max(r["n_tokens"] for r in own)
            assert sum(r["n_tokens"] for r in kept) == stratum["tokens_kept"]
            assert abs(stratum["tokens_kept"] - share * sum(r["n_tokens"] for r in own)) <= longest + 1
            assert {r["reason"] for r in own} <= {"kept", "below_threshold", "does_not_fit"}
            if fit == "prefix":
                assert min((r["quality"] for r in kept), default=99.0) >= stratum["threshold"]
                assert max(r["quality"] for r in own if not r["kept"]) <= stratum["threshold"]
    assert sum(s["tokens_kept"] for s in told["scopes"].values()) == told["tokens_kept"]
    assert all(s["threshold"] is None and s["length"] == "strata" for s in told["scopes"].values())


@pytest.mark.parametrize("control", ["residual", "strata"])
def test_sharding_and_temperature_change_nothing_of_it(tmp_path, control):
    plain = {"ant": growing("ant", 80, 1.0), "bee": growing("bee", 50, -1.0)}
    told, kept = [], []
    for name, cut in (("one", [0, 80]), ("two", [0, 11, 60, 80])):
        parts = {s: [own[a:b] for a, b in itertools.pairwise(cut) if own[a:b]] for s, own in plain.items()}
        world = World(tmp_path / name, parts, GROUPS)
        for temperature in (0.0, 0.5):
            told.append(world.select(length={"control": control}, temperature=temperature, source_min={"bee": "60%"}))
            kept.append(world.kept())
        shutil.rmtree(world.folder)
    assert told[:2] == told[2:] and kept[:2] == kept[2:] and kept[0] != kept[1]


def test_large_corpora_are_swept_as_small_ones(world, monkeypatch):
    from mira.selection import sweeps

    for control in ("residual", "strata"):
        told = world.select(length={"control": control}, scope="global")
        monkeypatch.setattr(sweeps, "_IN_MEMORY", 0)
        assert world.select(length={"control": control}, scope="global") == told
        monkeypatch.undo()


def test_none_is_the_default_and_leaves_bytes_as_they_were(world):
    world.select()
    files = [world.run.thresholds, *sorted(world.folder.glob("run/sel*/*/*"))]
    before = [path.read_bytes() for path in files]
    world.select(length={"control": "strata"})
    world.select(length={"control": "none", "strata": 5})
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("control", ["residual", "strata"])
def test_thresholds_can_be_applied_to_a_record_by_its_quality_and_tokens(world, control):
    told = world.select(length={"control": control})
    cuts = cuts_of(told)
    for source in ("ant", "bee"):
        quality, tokens = quality_and_tokens(world, source)
        kept = [r["kept"] for r in world.rows(source)]
        assert (cuts[source].margin(quality, tokens) >= 0).tolist() == kept
        assert [cuts[source].keeps(q, int(t), False) for q, t in zip(quality, tokens, strict=True)] == kept
        assert not cuts[source].keeps(None, 50, True)
    assert cuts_of({**told, "temperature": 1.0}) == {} == cuts_of({**told, "method": "dsir"})


@pytest.mark.parametrize("control", ["residual", "strata"])
def test_explain_tells_what_length_does(world, control, capsys):
    told = world.select(length={"control": control})
    row = max((r for r in world.rows("ant") if not r["kept"]), key=lambda r: r["quality"])
    found = explain(world.config(length={"control": control}), world.run, row["id"])
    assert not found.kept and found.flip.tokens_needed > found.flip.scope_budget
    print_explanation(found)
    said = capsys.readouterr().out
    if control == "residual":
        assert found.length.rest == found.value - found.length.predicted < found.threshold
        assert "length predicts" in said
    else:
        stratum = next(s for s in told["sources"]["ant"]["length"]["strata"] if s["shortest"] == found.length.shortest)
        assert found.threshold == stratum["threshold"] > found.quality
        assert found.flip.scope_budget == stratum["budget_tokens"]
        assert found.ranks["scope"].of == stratum["records_in"]
        assert "competes with records of" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "raw", "length": {"control": "residual"}}, "raw has no quality"),
        ({"method": "random", "length": {"control": "strata"}}, "random has no quality"),
        ({"method": "dataman", "length": {"control": "strata"}}, "dataman.by_domain: false"),
        ({"length": {"control": "strata", "strata": 1}}, "greater than or equal to 2"),
    ],
)
def test_what_length_cannot_be_taken_out_of_is_refused_by_name(given, message):
    with pytest.raises(ValidationError, match=message):
        SelectSettings.model_validate(given)


def test_fingerprints_notice_the_new_settings(world):
    plain = stage_settings(STAGE, world.config())
    assert not plain.keys() & {"select.length", "select.compare_by"}
    changed = stage_settings(STAGE, world.config(length={"control": "strata"}, compare_by="centred"))
    assert changed["select.length"] == {"control": "strata"} and changed["select.compare_by"] == "centred"


def test_methods_with_strata_of_their_own_are_refused():
    summary = Summary("ant", "part", "", records=1, tokens=1, ranked_records=0, ranked_tokens=0, strata={"law": (1, 0)})
    chosen = SelectSettings.model_validate({"length": {"control": "strata"}, "scope": "source"})
    assert retain(chosen, [summary], {}, {"ant": []}, map).rules == {}
    summary = Summary("ant", "part", "", records=1, tokens=1, ranked_records=1, ranked_tokens=1, strata={"law": (1, 1)})
    with pytest.raises(ConfigError, match="splits its budget by domain"):
        retain(chosen, [summary], {}, {"ant": []}, map)


def test_a_wholly_masked_source_keeps_its_random_order(world):
    world.mask({"bee": ["A1", "A2", "A3", "A4"]})
    try:
        world.select()
        before = {r["id"] for r in world.rows("bee") if r["kept"]}
        for control in ("residual", "strata"):
            told = world.select(length={"control": control})
            assert "length" not in told["sources"]["bee"] and "length" in told["sources"]["ant"]
            assert {r["id"] for r in world.rows("bee") if r["kept"]} == before
    finally:
        world.mask({})
