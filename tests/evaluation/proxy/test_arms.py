"""Arms: equal tokens, no gold, paired draws, and a selection that stays as it is."""

import numpy as np
import pytest

from mira.errors import ConfigError, RunError
from mira.evaluation.proxy.arms import arm_plans, draw_arms, parse_arm
from mira.evaluation.proxy.gold import Overlap
from mira.evaluation.proxy.model import SEPARATOR
from mira.progress import Quiet
from mira.selection.stage import selection_inputs
from support.proxy_world import HELD_OUT, SOURCES, proxy_world
from support.selection_world import Item, World

NOTHING = Overlap([], 0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return proxy_world(tmp_path_factory.mktemp("arms"))


def draw(world, names=("mira", "raw"), seeds=(0, 1), tokens=5000, gold=(), overlap=NOTHING, **select):
    config = world.config(**select)
    plans = arm_plans(selection_inputs(config, world.run, Quiet()), names)
    return draw_arms(config.corpus, world.run, plans, seeds, tokens, gold, overlap, Quiet())


def texts_of(world):
    return {(s, i.id): i.text.encode() for s, parts in world.sources.items() for items in parts for i in items}


def test_names():
    assert parse_arm("mira", "group") == ("mira", "group")
    assert parse_arm("mira:source", "group") == ("mira", "source")
    for name in ("mira:", "mira:shard", "best", "", "mira:group:x"):
        with pytest.raises(ConfigError, match="not a method"):
            parse_arm(name, "group")


def test_equal_tokens_of_what_each_method_keeps(world):
    arms = draw(world)
    texts = texts_of(world)
    assert list(arms) == ["random", "mira", "raw"]
    assert {arm.length for arm in arms.values()} == {5000}
    for arm in arms.values():
        for seed in (0, 1):
            stream = arm.stream(seed)
            whole = b"".join(b"\0" + texts[key] for key in arm.draws[seed])
            expected = np.frombuffer(whole, np.uint8).astype(np.int64)
            expected[expected == 0] = SEPARATOR
            assert np.array_equal(stream, expected[:5000])
            assert len(whole) >= 5000 > len(whole) - len(texts[arm.draws[seed][-1]]) - 1
            assert len(set(arm.draws[seed])) == len(arm.draws[seed])
    assert all(int(i[-3:]) % 2 == 0 for seed in (0, 1) for _, i in arms["mira"].draws[seed])
    assert any(int(i[-3:]) % 2 for _, i in arms["raw"].draws[0])


def test_arms_are_the_methods_selections(world):
    arms = draw(world, ("mira:source",), tokens=10**6)
    world.select(method="mira", scope="source")
    assert set(arms["mira:source"].draws[0]) <= world.kept()
    assert arms["mira:source"].records == len(world.kept())
    world.select(method="random", scope="group")
    assert arms["random"].records == len(world.kept())


def test_all_arms_are_cut_to_the_smallest(world):
    arms = draw(world, tokens=10**6, budget="20%")
    lengths = {name: len(arm.stream(0)) for name, arm in arms.items()}
    assert len(set(lengths.values())) == 1
    texts = texts_of(world)
    totals = {name: sum(len(texts[key]) + 1 for key in arm.draws[0]) for name, arm in arms.items()}
    assert min(totals.values()) == lengths["raw"] < 30_000
    assert len(arms["raw"].draws[0]) < arms["raw"].records


def test_seeds_draw_other_records_and_arms_share_them(world):
    arms = draw(world)
    assert set(arms["raw"].draws[0]) != set(arms["raw"].draws[1])
    order = {key: at for at, key in enumerate(arms["raw"].draws[0])}
    shared = [key for key in arms["mira"].draws[0] if key in order]
    assert len(shared) > 3
    assert [order[key] for key in shared] == sorted(order[key] for key in shared)
    again = draw(world)
    assert all(np.array_equal(arms[n].stream(s), again[n].stream(s)) for n in arms for s in (0, 1))


def test_a_draw_does_not_depend_on_sharding(tmp_path, world):
    whole = list(world.sources["docs"][0])
    one = World(tmp_path / "one", {"docs": [whole]}, {"text_group_A": ["docs"]})
    many = World(tmp_path / "many", {"docs": [whole[70:], whole[:7], whole[7:70]]}, {"text_group_A": ["docs"]})
    for name in ("mira", "random"):
        assert draw(one, ())["random"].draws == draw(many, ())["random"].draws
        assert draw(one, (name,))[name].draws == draw(many, (name,))[name].draws


def test_gold_is_in_no_arm(world):
    gold = {(s, f"{s}-{k:03d}") for s in SOURCES for k in range(HELD_OUT)}
    arms = draw(world, tokens=10**6, gold=gold)
    for arm in arms.values():
        assert not gold & {key for keys in arm.draws.values() for key in keys}
    assert arms["raw"].gold == len(gold)
    assert arms["raw"].records == 2 * 120 - len(gold)
    world.select(method="mira")
    assert arms["mira"].gold == len(gold & world.kept())
    assert arms["mira"].records + arms["mira"].gold == len(world.kept())


def test_copies_of_gold_are_in_no_arm(world):
    texts = texts_of(world)
    copied = [("docs", "docs-020"), ("tests", "tests-020"), ("docs", "docs-021")]
    arms = draw(world, tokens=10**6, overlap=Overlap([texts[key] for key in copied], 0.9))
    assert arms["raw"].overlapping == 3
    assert arms["mira"].overlapping == 2
    for arm in arms.values():
        assert not set(copied) & {key for keys in arm.draws.values() for key in keys}


def test_readings_go_on_until_there_is_enough(tmp_path):
    """Texts of one byte a token, of which most overlap with gold: the first guesses are too small."""
    bad = "z " * 40
    items = [Item(f"r{k:03d}", [5.0], " ".join("abcdefghij"[int(c)] for c in f"{k:03d}") * 4) for k in range(100)]
    items += [Item(f"s{k:03d}", [5.0], bad) for k in range(100)]
    world = World(tmp_path, {"docs": [items]}, {"text_group_A": ["docs"]})
    arms = draw(world, ("raw",), tokens=1500, overlap=Overlap([bad.encode()], 0.5))
    assert arms["raw"].length == min(1500, arms["raw"].length)
    assert len(arms["raw"].stream(0)) == arms["raw"].length > 800
    assert not any(i.startswith("s") for _, i in arms["raw"].draws[0])


def test_shares_of_sources(world):
    arm = draw(world)["raw"]
    shares = arm.shares(0)
    assert sum(shares.values()) == pytest.approx(1)
    texts, stream = texts_of(world), arm.stream(0)
    docs = sum(len(texts[key]) + 1 for key in arm.draws[0][:-1] if key[0] == "docs")
    last = arm.draws[0][-1]
    docs += len(stream) - sum(len(texts[key]) + 1 for key in arm.draws[0][:-1]) if last[0] == "docs" else 0
    assert shares["docs"] == pytest.approx(docs / len(stream))


def test_nothing_is_left(world):
    gold = {(s, i.id) for s, parts in world.sources.items() for items in parts for i in items}
    with pytest.raises(RunError, match="nothing outside the gold sets"):
        draw(world, gold=gold)


def test_the_runs_own_selection_stays(world):
    world.select(method="mira", scope="global")

    def state():
        paths = sorted(p for p in world.run.path.rglob("*") if p.is_file() and "values" not in p.parts)
        return {p: p.read_bytes() for p in paths}

    before, chosen = state(), (world.run.path / "values" / "selection.json").read_bytes()
    draw(world, ("mira:source", "raw"))
    assert state() == before
    assert (world.run.path / "values" / "selection.json").read_bytes() == chosen
