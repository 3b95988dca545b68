from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.errors import ConfigError, RunError
from mira.evaluation.compare import compare
from mira.evaluation.results import ComparisonResult
from mira.progress import Quiet
from mira.run_folder.files import read_json
from mira.run_folder.results import read_result
from support.selection_world import Item, World, items, words

METHODS = ["raw", "random", "mira", "ppl"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    graded = [Item(f"g{i}", [i / 10] * 4, f"{words(10 + i % 7)} {i}") for i in range(100)]
    twins = [Item(f"t{i}", [9.9] * 4, "exactly the same text\n\n") for i in range(10)]
    world = World(
        tmp_path_factory.mktemp("compare"),
        {"ant": [graded[:60], graded[60:]], "bee": [twins], "cat": [items("cat", 20)]},
        {"g": ["ant", "bee"], "h": ["cat"]},
    )  # fmt: skip
    verdicts = ["drop", "downsample", "keep"]
    rows = [
        (i.id, "ant", 0, float(at), verdicts[at * 3 // 100], "held_out" if at % 2 else "train")
        for at, i in enumerate(graded)
    ]
    names = ["id", "source", "replicate", "overall", "recommendation", "split"]
    path = world.run.labels("g")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table([list(c) for c in zip(*rows, strict=True)], names=names), path)
    return world


@pytest.fixture(scope="module")
def told(world):
    return compare(world.config(scope="global", budget="40%"), world.run, METHODS, Quiet())


def test_the_file_holds_what_is_returned(world, told):
    assert read_result(ComparisonResult, world.run.path / "compare.json") == told
    assert read_json(world.run.path / "compare.json") == asdict(told)
    assert list(told.methods) == METHODS
    assert told.budget_tokens == int(0.4 * told.tokens_in)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_counted_as_it_selects(world, told, method):
    selected = world.select(scope="global", budget="40%", method=method)
    own = told.methods[method]
    assert own.tokens_kept == selected["tokens_kept"]
    assert own.records_kept == sum(s["kept"] for s in selected["sources"].values()) == len(world.kept())
    for source, entry in own.sources.items():
        assert entry.tokens_kept == selected["sources"][source]["tokens_kept"]


def test_overlap_is_by_tokens(world, told):
    tokens = {(s, r["id"]): r["n_tokens"] for s in world.sources for r in world.rows(s)}
    kept = {}
    for method in ("random", "mira"):
        world.select(scope="global", budget="40%", method=method)
        kept[method] = world.kept()
    both = sum(tokens[k] for k in kept["random"] & kept["mira"])
    either = sum(tokens[k] for k in kept["random"] | kept["mira"])
    assert told.jaccard["random|mira"] == pytest.approx(both / either)
    assert told.jaccard["raw|mira"] == pytest.approx(sum(tokens[k] for k in kept["mira"]) / sum(tokens.values()))


def test_agreement_duplicates_and_length(world, told):
    mira, rand = told.methods["mira"], told.methods["random"]
    assert mira.agreement.all.n == 50
    world.select(scope="global", budget="40%")
    kept = [int(id_[1:]) for source, id_ in world.kept() if source == "ant" and int(id_[1:]) % 2]
    precision = mira.agreement.all.precision
    assert precision == sum(at * 3 // 100 == 2 for at in kept) / len(kept) > rand.agreement.all.precision
    assert mira.agreement.all.rho == pytest.approx(1.0)
    assert rand.agreement.all.rho is None
    twins = [r["n_tokens"] for r in world.rows("bee")]
    assert mira.duplicate_tokens == pytest.approx(sum(twins[1:]) / mira.tokens_kept)
    assert abs(told.methods["ppl"].length_rho) > abs(rand.length_rho)
    assert told.methods["raw"].length_rho is None


def test_mira_is_judged_by_held_out_predictions_where_there_are_any(world, told):
    rows = [(f"g{i}", "ant", *[float(99 - i) / 10] * 4) for i in range(1, 100, 2)]
    path = world.run.student("g") / "held_out.parquet"
    path.parent.mkdir(parents=True)
    table = pa.table([list(c) for c in zip(*rows, strict=True)], names=["id", "source", "A1", "A2", "A3", "A4"])
    pq.write_table(table, path)
    try:
        again = compare(world.config(scope="global", budget="40%"), world.run, ["mira"], Quiet())
    finally:
        path.unlink()
    assert again.methods["mira"].agreement.all.rho == pytest.approx(-1.0, abs=1e-3)
    assert again.methods["mira"].agreement.all.precision == 0.0


def test_methods_that_need_a_teacher_say_which_do_not(tmp_path):
    world = World(tmp_path, {"ant": [items("ant", 5)]}, {"g": ["ant"]})
    for method in ("mira", "dsir"):
        world.run.reliability.unlink(missing_ok=True)
        with pytest.raises(RunError, match=f"compare: {method} cannot run here.*\n.*--methods random,ppl"):
            compare(world.config(), world.run, ["random", method], Quiet())
    assert set(compare(world.config(), world.run, ["random", "ppl"], Quiet()).methods) == {"random", "ppl"}


@pytest.mark.parametrize("methods", [[], ["mira", "best"]])
def test_unknown_methods_are_refused(world, methods):
    with pytest.raises(ConfigError, match="unknown methods"):
        compare(world.config(), world.run, methods, Quiet())
