"""Sources with different masks: by own masks, by the slots that all trust, by centred slots."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.cli.tables import print_explanation, print_summary
from mira.run_folder.results import read_result
from mira.selection.explain.explain import explain
from mira.selection.ranks.rules import recorded
from mira.selection.yardstick.figures import Kept
from mira.selection.yardstick.yardsticks import Yardstick, competitors, load_yardsticks
from support.selection_world import Item, World, items

GROUPS = {"g": ["ant", "bee"], "h": ["cat"]}
MASKED = {"ant": ["A4"], "bee": ["A1"]}


def grid(source, n, seed=0):
    """Items whose scores lie on a grid of quarters, so that adding quarters to them is exact."""
    rng = np.random.default_rng([seed, *source.encode()])
    found = items(source, n, seed=seed)
    for item in found:
        item.scores = (rng.integers(4, 36, 4) / 4).tolist()
    return found


def shifted(found, slot, by):
    return [Item(i.id, [s + by * (at == slot) for at, s in enumerate(i.scores)], i.text) for i in found]


def make(folder, sources, masked=MASKED):
    world = World(folder, {source: [found] for source, found in sources.items()}, GROUPS)
    world.mask(masked)
    return world


def sources(seed=0):
    return {source: grid(source, n, seed) for source, n in (("ant", 40), ("bee", 40), ("cat", 10))}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make(tmp_path_factory.mktemp("masks"), sources())


def share(told, source):
    return told["sources"][source]["tokens_kept"] / told["sources"][source]["tokens_in"]


def test_own_is_the_default_and_leaves_bytes_and_hashes_as_they_were(world):
    files = [world.run.thresholds, *sorted(world.folder.glob("run/sel*/*/*"))]
    world.select()
    before = [path.read_bytes() for path in files]
    world.select(compare_by="centred")
    world.select(compare_by="own")
    assert [path.read_bytes() for path in files] == before
    assert "compare_by" not in json.loads(before[0])
    assert "compare_by" not in recorded(world.config().select)
    assert recorded(world.config(compare_by="shared").select)["compare_by"] == "shared"


def test_competitors_share_a_threshold_and_a_rubric():
    mask = {"ant": ("A1",), "bee": ("A1", "A2"), "cat": ("A2",), "dog": (), "eel": ("A1",)}
    group_of = {"ant": "g", "bee": "g", "cat": "h", "dog": "g"}
    by_rubric = {"ant": ("ant", "bee"), "bee": ("ant", "bee"), "cat": ("cat",), "eel": ("eel",)}
    assert competitors(mask, "group", group_of) == competitors(mask, "global", group_of) == by_rubric
    assert competitors(mask, "source", group_of) == {s: (s,) for s in ("ant", "bee", "cat", "eel")}


def test_yardsticks_are_the_shared_slots_and_the_levels_of_all_rivals(world):
    own, shared, centred = (
        load_yardsticks(world.config().select, world.run, name) for name in ("own", "shared", "centred")
    )
    assert own["ant"] == Yardstick(("A1", "A2", "A3")) and own["bee"] == Yardstick(("A2", "A3", "A4"))
    assert shared["ant"] == shared["bee"] == Yardstick(("A2", "A3")) and shared["cat"] == own["cat"]
    rivals = [i.scores for source in ("ant", "bee") for i in world.sources[source][0]]
    assert centred["bee"].slots == own["bee"].slots
    assert centred["bee"].means == pytest.approx(np.mean(rivals, axis=0)[1:])
    assert centred["bee"].deviations == pytest.approx(np.std(rivals, axis=0)[1:])
    alone = load_yardsticks(world.config(scope="source", compare_by="centred").select, world.run)
    assert alone["bee"].means == pytest.approx(np.mean([i.scores for i in world.sources["bee"][0]], axis=0)[1:])


SEEDS, SHIFTS = st.integers(0, 50), st.sampled_from([-1.0, 0.25, 1.0])


@settings(max_examples=4, deadline=None)
@given(SEEDS, SHIFTS, st.sampled_from([("ant", 3), ("ant", 0), ("bee", 0), ("bee", 3)]))
def test_shared_slots_do_not_see_a_slot_that_some_source_does_not_trust(tmp_path_factory, seed, by, at):
    plain, (source, slot) = sources(seed), at
    changed = {**plain, source: shifted(plain[source], slot, by)}
    told = [
        make(tmp_path_factory.mktemp("w"), found).select(compare_by="shared", write_selected=False)
        for found in (plain, changed)
    ]
    assert told[0] == told[1]


@settings(max_examples=4, deadline=None)
@given(SEEDS, SHIFTS, st.integers(0, 3), st.sampled_from(["global", "group", "source"]))
def test_centred_slots_do_not_see_a_constant_in_all_records(tmp_path_factory, seed, by, slot, scope):
    plain = sources(seed)
    changed = {source: shifted(found, slot, by) for source, found in plain.items()}
    kept = []
    for found in (plain, changed):
        world = make(tmp_path_factory.mktemp("w"), found)
        world.select(compare_by="centred", scope=scope, write_selected=False)
        kept.append(world.kept())
    assert kept[0] == kept[1] and kept[0]


def test_a_level_that_only_one_source_has_moves_its_share_by_its_own_mask_alone(tmp_path):
    plain = sources()
    high = {source: shifted(plain[source], 3, 12.0) for source in ("ant", "bee")} | {"cat": plain["cat"]}
    world = make(tmp_path, high)  # A4 stands 12 points above the rest, and ant's mask removes it
    told = {name: world.select(compare_by=name) for name in ("centred", "shared", "own")}
    assert share(told["own"], "ant") < share(told["shared"], "ant") - 0.1
    assert share(told["own"], "ant") < share(told["centred"], "ant") - 0.1
    kept = read_result(Kept, world.run.kept)
    ant = kept.sources["ant"]
    assert (ant.own, ant.shared) == pytest.approx((share(told["own"], "ant"), share(told["shared"], "ant")))
    assert ant.mask_moves == pytest.approx(ant.own - ant.shared)
    assert kept.sources["cat"].mask_moves == 0
    assert [n for n in kept.notes if n.startswith("WARNING: ant keeps") and "select.compare_by" in n]
    for name in ("shared", "centred"):
        world.select(compare_by=name)
        again = read_result(Kept, world.run.kept)
        assert (again.sources["ant"].own, again.sources["ant"].shared) == (ant.own, ant.shared)
        assert not [n for n in again.notes if n.startswith("WARNING: ant keeps")]


def test_explain_and_the_tables_tell_what_was_compared(tmp_path, capsys):
    world = make(tmp_path, sources())
    told = world.select(compare_by="shared")
    assert told["compare_by"] == "shared" and told["sources"]["ant"]["slots"] == ["A2", "A3"]
    found = explain(world.config(compare_by="shared"), world.run, "ant-3")
    assert [slot.used for slot in found.slots] == [False, True, True, False]
    assert found.compare_by == "shared" and found.mask_moves is not None
    scores = world.sources["ant"][0][3].scores
    assert found.quality == np.mean(scores[1:3])
    print_explanation(found)
    said = capsys.readouterr().out
    assert "not used: a competing source does not trust it" in said and "masks alone move" in said
    print_summary(world.run)
    assert "shared slots" in capsys.readouterr().out
    world.select(compare_by="centred", trim=0.34)
    found = explain(world.config(compare_by="centred", trim=0.34), world.run, "bee-3")
    yardstick = load_yardsticks(world.config(compare_by="centred").select, world.run)["bee"]
    z = (np.array(world.sources["bee"][0][3].scores)[1:] - yardstick.means) / yardstick.deviations
    trimmed = [slot.trimmed for slot in found.slots if slot.used]
    assert trimmed == [at in (np.argmin(z), np.argmax(z)) for at in range(3)]
    assert found.quality == pytest.approx(np.median(z), abs=1e-6)


def test_where_no_slot_is_shared_own_masks_decide_and_that_is_told(tmp_path):
    world = make(tmp_path, sources(), {"ant": ["A1", "A2"], "bee": ["A3", "A4"]})
    by_own = world.select()
    told = world.select(compare_by="shared")
    kept = read_result(Kept, world.run.kept)
    assert told["scopes"]["g"]["threshold"] == by_own["scopes"]["g"]["threshold"]
    assert kept.sources["ant"].shared is None and kept.sources["ant"].mask_moves is None
    assert any("no slot is trusted in all of ant, bee" in note and "centred" in note for note in kept.notes)
    world.mask({"ant": ["A1", "A2"], "bee": ["A3"]})
    world.select(compare_by="shared")
    assert any("trust only A4: fewer slots" in note for note in read_result(Kept, world.run.kept).notes)


def test_one_threshold_over_several_rubrics_is_a_warning(world):
    world.select(scope="global")
    notes = read_result(Kept, world.run.kept).notes
    assert any("select.scope: global puts 2 rubrics under one threshold (g, h)" in note for note in notes)
    world.select(scope="group")
    assert not any("select.scope" in note for note in read_result(Kept, world.run.kept).notes)


def test_a_slot_that_does_not_vary_counts_as_its_mean(tmp_path):
    found = {s: [Item(i.id, [5.0, *i.scores[1:]], i.text) for i in own] for s, own in sources().items()}
    world = make(tmp_path, found, {})
    world.select(compare_by="centred", trim=0.0)
    yardstick = load_yardsticks(world.config(compare_by="centred").select, world.run)["ant"]
    z = (np.array(found["ant"][3].scores[1:]) - yardstick.means[1:]) / yardstick.deviations[1:]
    assert world.record("ant-3")["quality"] == pytest.approx(z.sum() / 4, abs=1e-6)


def test_a_source_whose_every_slot_is_masked_competes_with_nobody(tmp_path):
    world = make(tmp_path, sources(), {"bee": ["A1", "A2", "A3", "A4"], "ant": ["A4"]})
    for name in ("shared", "centred"):
        told = world.select(compare_by=name)
        assert told["sources"]["bee"]["reasons"] == {"masked_source": 40}
        assert told["sources"]["ant"]["slots"] == ["A1", "A2", "A3"]
    kept = read_result(Kept, world.run.kept)
    assert kept.sources["bee"].mask_moves is None and kept.sources["bee"].length_rho is None


def test_levels_do_not_depend_on_sharding_and_follow_the_scores(tmp_path):
    plain = sources()
    whole = World(tmp_path / "whole", {s: [found] for s, found in plain.items()}, GROUPS)
    cut = World(tmp_path / "cut", {s: [found[:7], found[7:]] for s, found in plain.items()}, GROUPS)
    settings_ = whole.config(compare_by="centred").select
    assert load_yardsticks(settings_, whole.run) == load_yardsticks(settings_, cut.run)
    before = load_yardsticks(settings_, cut.run)
    path = sorted(cut.run.scores("ant").glob("*.parquet"))[0]
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index("A1"), "A1", [[9.0] * len(table)]), path)
    assert load_yardsticks(settings_, cut.run)["bee"].means != before["bee"].means


def test_length_stands_beside_what_was_kept(tmp_path):
    long = [Item(f"ant-{n}", [n / 10] * 4, " ".join(["a"] * (n + 3))) for n in range(60)]
    world = make(tmp_path, {**sources(), "ant": long}, {})
    world.select(budget="30%", scope="source")
    kept = read_result(Kept, world.run.kept)
    rows = world.rows("ant")
    assert kept.sources["ant"].length_rho == pytest.approx(1)
    assert kept.sources["ant"].tokens_each == pytest.approx(np.mean([r["n_tokens"] for r in rows]))
    assert kept.sources["ant"].tokens_each_kept == pytest.approx(np.mean([r["n_tokens"] for r in rows if r["kept"]]))
    assert [n for n in kept.notes if n.startswith("WARNING: ant: records rank by length") and "1.00" in n]
    world.select(method="random")
    kept = read_result(Kept, world.run.kept)
    assert kept.compare_by == "" and kept.notes == [] and kept.sources["ant"].length_rho is None
