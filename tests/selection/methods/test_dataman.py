import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.corpus import shards
from mira.errors import ConfigError, RunError
from support.selection_world import Item, World, items, words

DOMAINS = ["Coding", "Law"]


@pytest.fixture
def world(tmp_path):
    many = [Item(f"r{i:03d}", [5.0], words(10)) for i in range(200)]
    world = World(
        tmp_path, {"ant": [many[:120], many[120:]], "bee": [[Item("b", [5.0], words(10))]]}, {"g": ["ant", "bee"]}
    )
    for source in world.sources:
        put(world, source)
    return world


def put(world, source, change=lambda table: table):
    for shard in shards(world.config().corpus)[source]:
        index = pq.read_table(world.run.index(source) / f"{shard.name}.parquet")
        ids = index["id"].to_pylist()
        numbers = [int(i[1:] or 0) for i in ids]
        overall = [None if n == 7 else float(5 - n % 5) for n in numbers]
        table = pa.table(
            {
                "row": index["row"],
                "id": index["id"],
                "overall": pa.array(overall, pa.float32()),
                "domain_tag": [DOMAINS[n % 4 == 3] for n in numbers],
                "reason_unscored": pa.array(["unparsable" if o is None else None for o in overall], pa.string()),
            }
        )
        path = world.run.path / "dataman" / source / f"{shard.name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(change(table), path)


def test_the_budget_is_filled_in_proportion_per_source_and_domain(world):
    told = world.select(method="dataman", scope="source", budget="20%")
    ant = {key: value for key, value in told["scopes"].items() if key.startswith("ant")}
    assert list(ant) == ["ant: Coding", "ant: Law"]
    assert [scope["records_in"] for scope in ant.values()] == [150, 50]
    assert [scope["records_kept"] for scope in ant.values()] == [30, 10]
    rows = world.rows("ant")
    assert {r["quality"] for r in rows if r["kept"]} == {5.0}
    assert told["sources"]["ant"]["scope"] is None
    assert world.record("r007")["reason"] == "unscored:unparsable"


def test_without_domains_the_best_are_kept_and_floors_work(world):
    wanted = {"method": "dataman", "scope": "global", "budget": "30%", "dataman": {"by_domain": False}}
    told = world.select(**wanted, source_min={"bee": "100%"})
    assert told["sources"]["bee"]["kept"] == 1
    kept = [r["quality"] for r in world.rows("ant") if r["kept"]]
    assert len(kept) == 59 and min(kept) == 4.0 and kept.count(5.0) == 40


def test_a_least_score_leaves_the_rest_unscored(world):
    world.select(method="dataman", scope="source", budget="90%", dataman={"min_overall": 5})
    reasons = {r["reason"] for r in world.rows("ant")}
    assert reasons == {"kept", "unscored:below_min_overall", "unscored:unparsable"}
    assert sum(r["kept"] for r in world.rows("ant")) == 40


def test_floors_do_not_go_with_domains(world):
    with pytest.raises(ConfigError, match="split by domain"):
        world.select(method="dataman", scope="global", source_min={"ant": "10%"})


def test_without_scores_or_a_model_the_settings_to_give_are_named(tmp_path):
    world = World(tmp_path, {"ant": [items("ant", 5)]}, {"g": ["ant"]})
    with pytest.raises(RunError, match=r"Set select\.dataman\.endpoint") as caught:
        world.select(method="dataman", scope="global")
    assert "mira select" not in str(caught.value), "that is what was just run"


def test_scores_that_do_not_match_or_are_not_there(world):
    put(world, "ant", lambda table: table.slice(1))
    with pytest.raises(RunError, match="1 are missing"):
        world.select(method="dataman", scope="global")
    with pytest.raises(RunError, match="not there yet"):
        world.select(method="dataman", scope="global", dataman={"scores": str(world.folder / "none")})
