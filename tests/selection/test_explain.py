import pytest

from mira.cli.tables import print_explanation
from mira.errors import InputError, RunError
from mira.evaluation.compare import compare
from mira.progress import Quiet
from mira.selection.explain.explain import explain
from support.selection_world import Item, World, items


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(
        tmp_path_factory.mktemp("explain"),
        {"ant": [items("ant", 20), [*items("ant2", 10), Item("twice", [1.0] * 4)]], "bee": [items("bee", 15)],
         "cat": [[*items("cat", 9), Item("twice", [1.0] * 4), Item("none", [None] * 4, reason_unscored="refused")]]},
        {"g": ["ant", "bee"], "h": ["cat"]},
    )  # fmt: skip
    world.mask({"ant": ["A2"]})
    compare(world.config(), world.run, ["random", "mira"], Quiet())
    world.select()
    return world


def ordered(world, sources):
    rows = [(s, r) for s in sources for r in world.rows(s) if r["quality"] is not None]
    return sorted(rows, key=lambda x: -x[1]["quality"])


@pytest.mark.parametrize("at", [0, 7, 20, 43])
def test_ranks_and_flip_are_those_of_the_selection(world, at):
    ranking = ordered(world, ["ant", "bee"])
    source, row = ranking[at]
    told = explain(world.config(), world.run, row["id"])
    assert (told.source, told.group, told.kept, told.reason) == (source, "g", row["kept"], row["reason"])
    assert told.ranks["group"] == told.ranks["scope"] == (at + 1, len(ranking))
    own = [r for s, r in ranking if s == source]
    assert told.ranks["source"] == (own.index(row) + 1, len(own))
    flip = told.flip
    assert flip.tokens_needed == sum(r["n_tokens"] for _, r in ranking[: at + 1])
    assert (flip.tokens_needed <= flip.scope_budget) == row["kept"]
    random = told.methods["random"]
    assert 0 < random.value < 1 and 0 <= random.share_before < 1


def test_a_budget_just_above_the_flip_keeps_the_record(world):
    row = next(r for _, r in ordered(world, ["ant", "bee", "cat"])[25:] if not r["kept"])
    told = explain(world.config(scope="global"), world.run, row["id"])
    needed = told.flip.tokens_needed
    try:
        world.select(scope="global", budget=needed)
        assert world.record(row["id"])["kept"]
        world.select(scope="global", budget=needed - 1)
        assert not world.record(row["id"])["kept"]
    finally:
        world.select()


def test_slots_show_scores_and_masks(world):
    told = explain(world.config(), world.run, "ant-3")
    item = world.sources["ant"][0][3]
    assert [s.score for s in told.slots] == pytest.approx(item.scores)
    assert [s.masked for s in told.slots] == [False, True, False, False]
    assert told.threshold is not None and len(told.tie_hash) == 16


def test_an_unscored_record_has_no_rank(world):
    told = explain(world.config(), world.run, "none")
    assert (told.reason, told.scope, told.ranks, told.flip) == ("unscored:refused", None, {}, None)


def test_ids_that_are_unknown_or_not_unique_are_told(world):
    with pytest.raises(InputError, match="no valid record"):
        explain(world.config(), world.run, "nobody")
    with pytest.raises(InputError, match=r"several sources .* ant, cat"):
        explain(world.config(), world.run, "twice")
    assert explain(world.config(), world.run, "twice", "cat").source == "cat"


def test_a_source_that_is_not_there_or_lacks_the_id_is_told(world):
    with pytest.raises(InputError, match=r"there is no source 'nope'\n  Sources are: ant, bee, cat"):
        explain(world.config(), world.run, "ant-3", "nope")
    with pytest.raises(InputError, match=r"no valid record of 'bee' has the id 'ant-3'\n  It is in ant: "):
        explain(world.config(), world.run, "ant-3", "bee")
    with pytest.raises(InputError, match="It is in ant and in cat"):
        explain(world.config(), world.run, "twice", "bee")
    with pytest.raises(InputError, match="no valid record has the id 'nobody'"):
        explain(world.config(), world.run, "nobody", "bee")


def test_trimmed_slots_and_the_method_are_told(world, capsys):
    try:
        world.select(trim=0.34)
        told = explain(world.config(trim=0.34), world.run, "ant-3")
        scores = {s.slot: s.score for s in told.slots if not s.masked}
        trimmed = {s.slot for s in told.slots if s.trimmed}
        assert trimmed == {min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__)}
        (left,) = [scores[slot] for slot in scores if slot not in trimmed]
        assert told.quality == told.value == pytest.approx(left)
        print_explanation(told)
        said = capsys.readouterr().out
        assert said.count("trimmed") == 2
        assert "quality" in said
        world.select(method="random")
        told = explain(world.config(), world.run, "ant-3")
        assert not any(s.trimmed for s in told.slots) and 0 < told.value < 1
        print_explanation(told)
        assert f"value by random {told.value:.2f}" in capsys.readouterr().out
    finally:
        world.select()


def test_without_a_selection_there_is_nothing_to_explain(tmp_path):
    world = World(tmp_path, {"ant": [items("ant", 5)]}, {"g": ["ant"]})
    with pytest.raises(RunError, match="mira select"):
        explain(world.config(), world.run, "ant-1")
