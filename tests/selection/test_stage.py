import itertools
import math
import random
import re
import shutil
from collections import Counter

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.corpus import build_index
from mira.errors import BudgetError, ConfigError, ConservationError, RunError
from mira.progress import Quiet
from mira.run_folder.files import hash_file, hash_json, read_json
from mira.selection import map_shards
from mira.selection.quality import trimmed_mean
from support.selection_world import Item, World, items, words

GROUPS = {"text_group_A": ["ant", "bee"], "text_group_B": ["cat"]}
SCOPES = ["global", "group", "source"]


def make(folder, sizes=(40, 25, 30), **kwargs):
    sources = {s: [items(s, n)] for s, n in zip(("ant", "bee", "cat"), sizes, strict=True)}
    return World(folder, sources, kwargs.get("groups", GROUPS))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make(tmp_path_factory.mktemp("world"))


def pools(world, scope):
    if scope == "global":
        return [list(world.sources)]
    return [list(v) for v in GROUPS.values()] if scope == "group" else [[s] for s in world.sources]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("budget", ["50%", "7%", "0.01%", "100%"])
def test_each_pool_keeps_its_best_records_up_to_its_budget(shared, scope, budget):
    told = shared.select(scope=scope, budget=budget)
    for key, members in zip(told["scopes"], pools(shared, scope), strict=True):
        rows = [row for source in members for row in shared.rows(source)]
        entry, tokens = told["scopes"][key], sum(r["n_tokens"] for r in rows)
        kept = [r for r in rows if r["kept"]]
        dropped = sorted((r for r in rows if not r["kept"]), key=lambda r: -r["quality"])
        assert entry["tokens_kept"] == sum(r["n_tokens"] for r in kept) <= entry["budget_tokens"]
        assert abs(entry["budget_tokens"] - tokens * float(budget[:-1]) / 100) <= 1
        if dropped:
            assert entry["tokens_kept"] + dropped[0]["n_tokens"] > entry["budget_tokens"]
            assert min((r["quality"] for r in kept), default=math.inf) >= dropped[0]["quality"]
            if kept:
                assert min(r["quality"] for r in kept) >= entry["threshold"] >= dropped[0]["quality"]


def test_quality_is_the_trimmed_mean_of_unmasked_slots(tmp_path):
    world = make(tmp_path)
    world.mask({"ant": ["A2"]})
    world.select(trim=0.34)
    for row, item in zip(world.rows("ant"), world.sources["ant"][0], strict=True):
        unmasked = [pc.cast([item.scores[i]], "float32").to_numpy(zero_copy_only=False) for i in (0, 2, 3)]
        assert row["quality"] == trimmed_mean(unmasked, 0.34, 1)[0][0]


def test_kept_records_keep_their_bytes_and_tell_where_they_come_from(shared):
    told = shared.select(scope="group")
    lines = (shared.run.selected("ant") / "part_000.jsonl").read_text().splitlines()
    kept = [r for r in shared.rows("ant") if r["kept"]]
    assert len(lines) == len(kept) > 0
    for line, row in zip(lines, kept, strict=True):
        record = orjson.loads(line)
        assert line.startswith(orjson.dumps({"id": row["id"], "text": record["text"]}).decode()[:-1])
        scope = told["scopes"]["text_group_A"]
        assert record["mira"].items() >= {
            "method": "mira", "scope": "text_group_A", "threshold": scope["threshold"], "quality": row["quality"],
            "n_tokens": row["n_tokens"],
        }.items()  # fmt: skip


def test_fit_skip_passes_over_records_that_do_not_fit(tmp_path):
    long = Item("ant-long", [10.0] * 4, words(5000))
    middle = Item("ant-middle", [9.9] * 4, words(900))
    sources = {"ant": [[long, middle], items("ant", 40, tokens=20)], "bee": [items("bee", 40, tokens=20)]}
    world = World(tmp_path, sources, {"g": ["ant", "bee"]})
    told = world.select(scope="global", budget=1050, fit="skip")
    reasons = {id_: world.record(id_)["reason"] for id_ in ("ant-long", "ant-middle")}
    assert reasons == {"ant-long": "does_not_fit", "ant-middle": "kept"}
    assert (told["tokens_kept"], told["notes"]) == (1040, [])
    threshold = told["scopes"]["global"]["threshold"]
    rest = [row for source in ("ant", "bee") for row in world.rows(source) if row["n_tokens"] == 20]
    assert all(row["kept"] == (row["quality"] >= threshold) for row in rest)
    told = world.select(scope="source", budget=900, fit="skip")
    assert 0 <= told["scopes"]["ant"]["budget_tokens"] - told["sources"]["ant"]["tokens_kept"] < 20
    told = world.select(scope="global", budget=1000, fit="skip", source_max={"ant": 300}, source_min={"bee": 790})
    assert told["tokens_kept"] == 1000
    assert told["sources"]["ant"]["tokens_kept"] <= 220 and told["sources"]["bee"]["tokens_kept"] >= 780
    told = world.select(scope="global", budget=600, fit="skip", source_min={"ant": 300})
    assert told["sources"]["ant"]["tokens_kept"] >= 300 and told["tokens_kept"] == 600


def test_defaults_of_later_settings_leave_provenance_hashes_as_they_were(shared):
    shared.select()
    line = orjson.loads((shared.run.selected("ant") / "part_000.jsonl").read_text().splitlines()[0])
    settings = shared.config().select.model_dump(mode="json")
    assert [settings.pop(name) for name in ("fit", "compare_by", "length", "gates", "column")] == [
        "prefix",
        "own",
        {"control": "none", "strata": 5},
        [],
        {"score": ""},
    ]
    assert line["mira"]["settings"] == hash_json([settings, 0])


SHARDING = st.tuples(st.randoms(use_true_random=False), st.integers(1, 4))


@settings(max_examples=5)
@given(
    SHARDING,
    st.sampled_from(SCOPES),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from(["mira", "random"]),
    st.sampled_from(["prefix", "skip"]),
)
def test_any_split_and_any_order_keep_the_same_records(tmp_path_factory, sharding, scope, temperature, method, fit):
    rng, n_shards = sharding
    plain = {s: items(s, n) for s, n in (("ant", 20), ("bee", 9), ("cat", 14))}
    for source in plain.values():  # ties everywhere
        for item in source:
            item.scores = [float(round(x / 4)) for x in item.scores]
    cut = {}
    for source, whole in plain.items():
        mixed = whole[:]
        rng.shuffle(mixed)
        ends = [0, *sorted(rng.randrange(len(mixed)) for _ in range(n_shards - 1)), len(mixed)]
        cut[source] = [mixed[a:b] for a, b in itertools.pairwise(ends) if a < b]
    wanted = {
        "method": method,
        "scope": scope,
        "temperature": temperature,
        "fit": fit,
        "budget": "43%",
        "source_min": {"bee": "60%"},
    }
    told, kept = [], []
    for parts in ({s: [whole] for s, whole in plain.items()}, cut):
        world = World(tmp_path_factory.mktemp("world"), parts, GROUPS)
        told.append(world.select(**wanted))
        kept.append(world.kept())
        shutil.rmtree(world.folder)
    assert told[0] == told[1]
    assert kept[0] == kept[1] and kept[0]


def test_the_same_run_writes_the_same_bytes(tmp_path):
    hashes = []
    for name in ("one", "two"):
        world = make(tmp_path / name)
        world.select(scope="source", temperature=0.5)
        paths = sorted([world.run.thresholds, *world.folder.glob("run/sel*/*/*")])
        hashes.append([hash_file(path) for path in paths])
    assert hashes[0] == hashes[1] and len(hashes[0]) == 7


def test_every_record_is_accounted_for(tmp_path):
    world = make(tmp_path)
    path = tmp_path / "input" / "ant" / "part_000.jsonl"
    path.write_bytes(path.read_bytes() + b"not json\n" + path.read_bytes().splitlines()[0] + b"\n")
    build_index(world.config(), world.run, Quiet())
    world.score("ant")
    ant = world.select()["sources"]["ant"]
    assert (ant["rows"], ant["records_in"], ant["rejected"], ant["unscored"]) == (42, 40, 2, 0)
    assert ant["kept"] + ant["dropped"] == 40
    assert ant["kept"] == sum(r["kept"] for r in world.rows("ant"))


def test_lost_records_are_an_error(tmp_path):
    world = make(tmp_path)
    world.select()
    path = world.run.selection("ant") / "part_000.parquet"
    table = pq.read_table(path)
    metadata = pq.read_metadata(path).metadata
    counts = orjson.loads(metadata[b"mira"]) | {"kept": 1, "written": 1}
    changed = {"mira": orjson.dumps(counts), "mira.of": metadata[b"mira.of"]}
    pq.write_table(table.replace_schema_metadata(changed), path)
    with pytest.raises(ConservationError, match="40 rows in, but 1 kept"):
        world.select()


def test_missing_scores_and_nan_are_unscored_with_their_reason(tmp_path):
    odd = [
        Item("no-reply", [None] * 4, reason_unscored="truncated"),
        Item("nan", [math.nan] * 4),
        Item("two", [5.0, 6.0, None, None]),
        Item("three", [5.0, 6.0, 7.0, None]),
        Item("one-nan", [5.0, 6.0, 7.0, math.nan]),
    ]
    world = World(tmp_path, {"ant": [odd]}, {"text_group_A": ["ant"]})
    told = world.select(budget="100%", min_slots=3)["sources"]["ant"]
    assert {r["id"]: r["reason"] for r in world.rows("ant")} == {
        "no-reply": "unscored:truncated", "nan": "unscored:not_finite", "two": "unscored:too_few_slots",
        "three": "kept", "one-nan": "kept",
    }  # fmt: skip
    assert (told["kept"], told["unscored"], told["dropped"]) == (2, 3, 0)
    assert all((r["quality"] is None) == r["reason"].startswith("unscored") for r in world.rows("ant"))


def test_a_source_with_fewer_unmasked_slots_than_min_slots_needs_them_all(tmp_path):
    world = World(
        tmp_path, {"ant": [[Item("a", [1.0, 2.0, 3.0, 4.0]), Item("b", [None, 2.0, 3.0, 4.0])]]}, {"g": ["ant"]}
    )
    world.mask({"ant": ["A3", "A4"]})
    world.select(budget="100%", min_slots=3)
    assert [(r["quality"], r["kept"]) for r in world.rows("ant")] == [(1.5, True), (None, False)]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_fully_masked_source_keeps_its_share_at_random_or_nothing(tmp_path, scope):
    world = make(tmp_path)
    world.mask({"bee": ["A1", "A2", "A3", "A4"]})
    told = world.select(scope=scope, masked_source="random")
    bee = told["sources"]["bee"]
    assert abs(bee["tokens_kept"] - bee["tokens_in"] / 2) <= 60
    assert {(r["reason"], r["quality"]) for r in world.rows("bee")} == {("masked_source", None)}
    chosen = {r["id"] for r in world.rows("bee") if r["kept"]}
    world.select(scope=scope, masked_source="random", seed=1)
    assert chosen != {r["id"] for r in world.rows("bee") if r["kept"]}
    told = world.select(scope=scope, masked_source="drop")
    assert (told["sources"]["bee"]["kept"], told["sources"]["bee"]["dropped"]) == (0, 25)
    assert told["budget_tokens"] - told["tokens_kept"] <= 60 * 2  # the others take its share
    assert {r["reason"] for r in world.rows("bee")} == {"masked_source"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(2), "2 are missing, 0 ids are unknown, 0 ids come twice"),
        (lambda t: t.slice(0, 0), "40 are missing"),
        (lambda t: pc.take(t, [*range(40), 39]), "0 are missing, 0 ids are unknown, 1 ids come twice"),
        (lambda t: pc.take(t, [*range(39), 38]), "1 are missing, 0 ids are unknown, 1 ids come twice"),
        (lambda t: pc.take(t, list(range(39, -1, -1))), "another order"),
        (lambda t: t.set_column(1, "id", [[f"x{i}" for i in range(40)]]), "40 are missing, 40 ids are unknown"),
        (lambda t: t.drop_columns(["A2"]), "columns A2 are missing"),
    ],
)
def test_scores_that_do_not_match_the_corpus_are_an_error_with_numbers(tmp_path, change, message):
    world = make(tmp_path)
    world.score("ant", change)
    with pytest.raises(RunError, match=message) as error:
        world.select()
    assert "mira score" in error.value.hint


def test_scores_that_are_not_there_or_no_parquet_are_an_error(tmp_path):
    world = make(tmp_path)
    path = world.run.scores("cat") / "part_000.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(RunError, match="not a Parquet file"):
        world.select()
    path.unlink()
    with pytest.raises(RunError, match="not there yet"):
        world.select()


def test_missing_groups_and_cells_are_an_error(tmp_path):
    world = make(tmp_path, groups={"text_group_A": ["ant", "bee"]})
    with pytest.raises(RunError, match="cat"):
        world.select(scope="group")
    assert world.select(scope="global")["tokens_kept"] > 0
    table = pq.read_table(world.run.reliability)
    pq.write_table(table.filter(pc.not_equal(table["source"], "ant")), world.run.reliability)
    with pytest.raises(RunError, match="nothing of source 'ant'"):
        world.select(scope="global")


def test_equal_scores_are_kept_in_hash_order(tmp_path):
    same = [Item(f"r{i}", [5.0] * 4, words(10)) for i in range(50)]
    world = World(tmp_path, {"ant": [same]}, {"g": ["ant"]})
    told = world.select(budget="50%")
    assert told["sources"]["ant"]["kept"] == 25
    assert told["scopes"]["g"]["threshold"] == 5.0
    first = world.kept()
    world.select(budget="20%")
    assert world.kept() < first
    world.select(budget="50%", seed=3)
    assert len(world.kept()) == 25 and world.kept() != first


@pytest.mark.parametrize("scope", SCOPES)
def test_floors_and_caps_hold_and_the_budget_is_still_met(tmp_path, scope):
    world = make(tmp_path)
    free = world.select(scope=scope)["sources"]
    bounds = {"source_min": {"bee": "95%"}, "source_max": {"cat": "20%"}}
    told = world.select(scope=scope, **bounds)
    bee, cat = told["sources"]["bee"], told["sources"]["cat"]
    assert free["bee"]["tokens_kept"] < 0.95 * bee["tokens_in"] - 60
    assert 0.95 * bee["tokens_in"] - 60 <= bee["tokens_kept"]
    assert 0.2 * cat["tokens_in"] - 60 <= cat["tokens_kept"] <= 0.2 * cat["tokens_in"]
    assert 0 <= told["budget_tokens"] - told["tokens_kept"] <= 3 * 60
    reasons = {s: Counter(r["reason"] for r in world.rows(s)) for s in ("bee", "cat")}
    if scope == "global":
        assert reasons["bee"]["floor"] > 0 and reasons["cat"]["cap"] > 0
    for source in ("ant", "bee", "cat"):  # within a source the best are kept, whatever the bounds
        rows = world.rows(source)
        assert min(r["quality"] for r in rows if r["kept"]) >= max(r["quality"] for r in rows if not r["kept"])


def test_a_source_smaller_than_its_floor_is_kept_whole_and_told(tmp_path):
    world = make(tmp_path)
    told = world.select(scope="global", source_min={"bee": "5k"}, budget="60%")
    assert told["sources"]["bee"]["kept"] == 25
    assert any("bee" in note and "5,000" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"source_min": {"ant": "100%", "bee": "100%"}, "budget": "10%"},
            BudgetError,
            "floors add up to .* the budget is",
        ),
        ({"source_max": {"ant": 0, "bee": "0%"}, "budget": "90%"}, BudgetError, "caps allow .* the budget is"),
        ({"source_min": {"ant": "50%"}, "source_max": {"ant": "40%"}}, BudgetError, "source_min is .* source_max"),
        ({"source_min": {"antt": "50%"}}, ConfigError, "Did you mean 'ant'"),
    ],
)
def test_contradictions_are_errors_with_numbers(shared, settings, error, message):
    plain = {k: {n: str(x) for n, x in v.items()} if isinstance(v, dict) else v for k, v in settings.items()}
    with pytest.raises(error) as caught:
        shared.select(scope="global", **plain)
    assert re.search(message, str(caught.value))


def test_a_budget_above_what_is_ranked_keeps_all_and_says_so(shared):
    told = shared.select(budget="1B")
    assert told["tokens_kept"] == told["tokens_in"]
    assert all(scope["threshold"] is None for scope in told["scopes"].values())
    assert any("holds all" in note for note in told["notes"])


def test_raw_keeps_everything_whatever_the_budget(shared):
    told = shared.select(method="raw", budget="10%", source_max={"ant": "5%"}, temperature=2.0)
    assert told["tokens_kept"] == told["tokens_in"]
    assert all(r["kept"] and r["quality"] is None for s in shared.sources for r in shared.rows(s))


def test_random_needs_no_scores_and_keeps_the_source_mix(tmp_path):
    world = make(tmp_path, sizes=(200, 100, 100))
    shutil.rmtree(world.folder / "run" / "scores")
    world.run.reliability.unlink()
    told = world.select(method="random", scope="source")
    for source in told["sources"].values():
        assert 0 <= source["tokens_in"] / 2 - source["tokens_kept"] <= 60
    first = world.kept()
    told = world.select(method="random", scope="global")
    assert all(abs(s["tokens_kept"] / s["tokens_in"] - 0.5) < 0.15 for s in told["sources"].values())
    world.select(method="random", scope="source", seed=9)
    assert world.kept() != first


def test_temperature_moves_from_the_top_to_a_sample(tmp_path):
    rng = random.Random(0)
    many = [Item(f"r{i}", [rng.gauss(5, 1)] * 4, words(10)) for i in range(600)]
    world = World(tmp_path, {"ant": [many]}, {"g": ["ant"]})
    mean, kept = {}, {}
    for temperature in (0.0, 0.5, 2.0, 1000.0):
        world.select(temperature=temperature, write_selected=False)
        chosen = [r["quality"] for r in world.rows("ant") if r["kept"]]
        assert len(chosen) == 300
        mean[temperature], kept[temperature] = sum(chosen) / 300, world.kept()
    assert mean[0.0] > mean[0.5] > mean[2.0] > mean[1000.0]
    assert abs(mean[1000.0] - sum(i.scores[0] for i in many) / 600) < 0.1
    world.select(temperature=0.5, write_selected=False)
    assert world.kept() == kept[0.5]
    world.select(temperature=0.5, seed=1, write_selected=False)
    assert world.kept() != kept[0.5]


def test_what_another_selection_left_is_removed(tmp_path):
    world = make(tmp_path)
    world.select(budget="90%")
    stale = [world.run.selection("ant") / "gone.parquet", world.run.selected("dog") / "gone.jsonl"]
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"old")
    world.select(budget="10%")
    assert not any(path.exists() for path in stale)
    world.select(budget="10%", write_selected=False)
    assert not (world.folder / "run" / "selected").exists()


def test_an_interrupted_selection_goes_on_and_ends_the_same(tmp_path):
    world = World(tmp_path, {"ant": [items("ant", 20), items("ant2", 20)]}, {"g": ["ant"]})
    told = world.select()
    kept = world.kept()
    first, second = sorted(world.run.selection("ant").glob("*.parquet"))
    before = first.stat().st_mtime_ns
    second.unlink()
    world.run.thresholds.unlink()
    assert world.select() == told == read_json(world.run.thresholds)
    assert world.kept() == kept
    assert first.stat().st_mtime_ns == before


def test_new_scores_are_noticed(tmp_path):
    world = make(tmp_path)
    world.select()
    before = world.rows("ant")
    for item in world.sources["ant"][0]:
        item.scores = [10 - s for s in item.scores]
    world.score("ant")
    world.select()
    assert world.rows("ant") != before


def test_a_source_that_changes_after_its_scores_are_there_is_refused(tmp_path):
    world = make(tmp_path)
    world.select()
    kept = world.kept()
    path = next(tmp_path.rglob("ant/part_000.jsonl"))
    path.write_text(path.read_text().replace("a", "b"))
    with pytest.raises(RunError, match="has changed since it was indexed"):
        world.select(budget="50%")
    assert world.kept() == kept


def test_values_are_not_made_again_for_another_budget(tmp_path):
    world = make(tmp_path)
    world.select(budget="50%")
    path = world.run.path / "values" / "mira" / "ant" / "part_000.parquet"
    before = path.stat().st_mtime_ns
    world.select(budget="30%", scope="source")
    assert path.stat().st_mtime_ns == before
    world.mask({"ant": ["A1"]})
    world.select(budget="30%", scope="source")
    assert path.stat().st_mtime_ns != before


def test_processes_write_what_threads_write(tmp_path, monkeypatch):
    world = World(tmp_path, {"ant": [items("ant", 20), items("ant2", 20)]}, {"g": ["ant"]})
    told = world.select(method="random")
    paths = sorted(world.folder.glob("run/sel*/*/*"))
    before = [hash_file(path) for path in paths]
    shutil.rmtree(world.run.path / "selection")
    monkeypatch.setattr(map_shards, "_SMALL", 0)
    assert world.select(method="random") == told
    assert [hash_file(path) for path in paths] == before and len(before) == 4


def test_a_budget_that_a_long_record_leaves_unused_is_told(tmp_path):
    long = Item("ant-long", [10.0] * 4, words(5000))
    others = items("ant", 40, tokens=20)
    world = World(tmp_path, {"ant": [[long, *others]], "bee": [items("bee", 40, tokens=20)]}, {"g": ["ant", "bee"]})
    notes = world.select(scope="source", budget=900)["notes"]
    assert [note.partition(":")[0] for note in notes] == ["WARNING"]
    assert notes[0].startswith("WARNING: ant: only 0 of the budget's 7") and "select.fit: skip" in notes[0]
    floor = world.select(scope="global", budget=5300, source_min={"ant": 300})["notes"]
    assert world.select(scope="global", budget=6000)["notes"] == []
    assert floor == []  # the long record fits into the whole budget
    assert any("keeps 0 of the 300 tokens of its source_min" in n for n in world.select(
        scope="global", budget=600, source_min={"ant": 300})["notes"])  # fmt: skip
