"""Which copy stands where duplicates are dropped."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mira.config.settings import FlagSettings
from mira.flags import flag
from mira.progress import Quiet
from mira.selection.stage import select
from support.selection_world import Item, World

TEXTS = [f"text number {i} of a few words" for i in range(20)]


def selected(world: World, flags: FlagSettings, **settings: object) -> dict[str, str]:
    """Flag and select; return id -> reason."""
    config = world.config(budget="100%", scope="global", **settings).model_copy(update={"flags": flags})
    flag(config, world.run, Quiet())
    select(config, world.run, Quiet())
    return {row["id"]: row["reason"] for source in world.sources for row in world.rows(source)}


def copies(folder: Path, *scores: float | None) -> World:
    """Every text once in each of the sources s0, s1, ..., all of a source with one score."""
    sources = {f"s{k}": [[Item(f"{k}-{i}", [s] * 4, t) for i, t in enumerate(TEXTS)]] for k, s in enumerate(scores)}
    return World(folder, sources, {"g": list(sources)})


def drop(**settings: object) -> FlagSettings:
    return FlagSettings.model_validate({"duplicates": "drop", **settings})


def test_the_best_copy_stands(tmp_path):
    found = selected(copies(tmp_path, 3.0, 8.0, 5.0), drop())
    assert {i for i, why in found.items() if why == "kept"} == {f"1-{i}" for i in range(20)}
    assert {why for i, why in found.items() if not i.startswith("1-")} == {"flagged:duplicate"}


def test_an_unscored_copy_does_not_stand_for_a_scored_one(tmp_path):
    found = selected(copies(tmp_path, None, 1.0), drop())
    assert {i for i, why in found.items() if why == "kept"} == {f"1-{i}" for i in range(20)}


@pytest.mark.parametrize("most", [0, "0%", 3])
def test_a_copy_that_its_source_may_not_keep_does_not_stand(tmp_path, most):
    found = selected(copies(tmp_path, 9.0, 1.0), drop(), source_max={"s0": most})
    assert {i for i, why in found.items() if why == "kept"} == {f"1-{i}" for i in range(20)}


def test_a_changed_cap_is_followed(tmp_path):
    world = copies(tmp_path, 9.0, 1.0)
    for most, stands in ((0, "1"), ("100%", "0"), (0, "1")):
        found = selected(world, drop(), source_max={"s0": most})
        assert {i[0] for i, why in found.items() if why == "kept"} == {stands}


def test_copies_of_no_better_value_stand_by_hash_and_one_of_each_is_kept(tmp_path):
    world = copies(tmp_path, 5.0, 5.0)
    for method in ("mira", "random", "raw"):
        found = selected(world, drop(), method=method)
        kept = sorted(i for i, why in found.items() if why == "kept")
        assert sorted(i.partition("-")[2] for i in kept) == sorted(str(i) for i in range(20))
        named = pq.read_table(world.run.path / "flags", columns=["id", "duplicate_of"]).to_pylist()
        assert kept == sorted(row["id"] for row in named if row["duplicate_of"] is None)


def test_a_clean_copy_stands_where_contaminated_records_are_dropped(tmp_path):
    pytest.importorskip("rensa")
    question = "which planet of the solar system has the largest number of known moons as of today"
    body = [" ".join(f"word{i * 37 % 900 + k}" for i in range(300)) for k in range(12)]
    dirty = [Item(f"dirty{k}", [9.0] * 4, f"{text} {question}") for k, text in enumerate(body)]
    clean = [Item(f"clean{k}", [2.0] * 4, text) for k, text in enumerate(body)]
    world = World(tmp_path, {"a": [dirty], "b": [clean]}, {"g": ["a", "b"]})
    (tmp_path / "bench.txt").write_text(question)
    benchmark = [{"name": "b", "path": str(tmp_path / "bench.txt")}]
    settings = drop(near=True, benchmarks=benchmark, contaminated="drop", jaccard=0.7)
    found = selected(world, settings)
    assert {i for i, why in found.items() if why == "kept"} == {item.id for item in clean}
    assert {found[item.id] for item in dirty} == {"flagged:near_duplicate"}
    kept = {i for i, why in selected(world, drop(near=True, jaccard=0.7)).items() if why == "kept"}
    assert kept == {item.id for item in dirty}, "where they are not dropped, the better one stands"


def test_order_of_shards_does_not_matter(tmp_path):
    def of(folder: Path, parts: list[list[Item]]) -> dict[str, str]:
        return selected(World(folder, {"s": parts}, {"g": ["s"]}), drop())

    every = [Item(f"{k}-{i}", [float(k)] * 4, t) for k in range(3) for i, t in enumerate(TEXTS)]
    one = of(tmp_path / "one", [every])
    assert of(tmp_path / "many", [every[45:], every[10:45], every[:10]]) == one
    assert {i for i, why in one.items() if why == "kept"} == {f"2-{i}" for i in range(20)}
