"""Gold sets, and what overlaps with them."""

import json

import numpy as np
import pytest

from mira.config.loading import load_config
from mira.config.settings import SourceSettings
from mira.errors import ConfigError, InputError, RunError
from mira.evaluation.proxy.gold import Overlap, gold_sets
from support.proxy_world import SOURCES, proxy_world, verdict, write_labels

BIG = 1 << 20


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return proxy_world(tmp_path_factory.mktemp("gold"))


def with_gold(config, *sources):
    proxy = config.evaluate.proxy.model_copy(update={"gold": list(sources)})
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"proxy": proxy})})


def gold_of(config, run, gold_bytes=BIG, record_bytes=BIG):
    sizes = {"gold_bytes": gold_bytes, "record_bytes": record_bytes}
    return gold_sets(config.evaluate.proxy, config.corpus, run, seed=config.seed, **sizes)


def test_held_out_records_by_verdict_best_and_worst_first(world):
    keep, drop = gold_of(world.config(), world.run)
    assert (keep.name, keep.kind, drop.name, drop.kind) == (
        "text_group_A/keep", "keep", "text_group_A/drop", "drop",
    )  # fmt: skip
    assert set(keep.ids) == {(s, f"{s}-{k:03d}") for s in SOURCES for k in range(0, 12, 2)}
    assert set(drop.ids) == {(s, f"{s}-{k:03d}") for s in SOURCES for k in range(1, 12, 2)}
    assert [i[-3:] for _, i in keep.ids[:2]] == ["010", "010"]
    assert [i[-3:] for _, i in drop.ids[:2]] == ["001", "001"]
    texts = {item.id: item.text.encode() for parts in world.sources.values() for items in parts for item in items}
    assert keep.texts == keep.whole == tuple(texts[i] for _, i in keep.ids)


def test_sizes_are_bounded(world):
    keep, _ = gold_of(world.config(), world.run, 1000, 300)
    assert len(keep.texts) == 4  # the fourth reaches 1000
    assert {len(t) for t in keep.texts} == {300}
    assert min(map(len, keep.whole)) > 300


def test_the_best_quarter_where_nothing_is_to_be_kept(tmp_path):
    world = proxy_world(tmp_path, n=30)
    write_labels(world.run, [verdict("docs", k, "held_out") for k in range(1, 24, 2)])
    keep, drop = gold_of(world.config(), world.run)
    assert [i for _, i in keep.ids] == ["docs-023", "docs-021", "docs-019"]
    assert len(drop.ids) == 12


def test_given_files(world, tmp_path):
    path = tmp_path / "exam.jsonl"
    path.write_text("".join(json.dumps({"text": f"question {k}"}) + "\n" for k in range(3)))
    exam = SourceSettings(name="exam", path=str(path))
    *_, given = gold_of(with_gold(world.config(), exam), world.run)
    assert (given.name, given.kind, given.ids) == ("exam", "given", ())
    assert given.texts == (b"question 0", b"question 1", b"question 2")
    with pytest.raises(ConfigError, match="not distinct"):
        gold_of(with_gold(world.config(), exam, exam), world.run)
    with pytest.raises(ConfigError, match="not distinct"):
        gold_of(with_gold(world.config(), exam.model_copy(update={"name": "keep"})), world.run)
    with pytest.raises(InputError):
        gold_of(with_gold(world.config(), exam.model_copy(update={"path": str(tmp_path / "no*")})), world.run, 9, 9)


def test_nothing_to_measure_on(tmp_path):
    world = proxy_world(tmp_path, n=30)
    write_labels(world.run, [verdict(s, k, "train") for s in SOURCES for k in range(20)])
    with pytest.raises(RunError, match="no held-out labels") as raised:
        gold_of(world.config(), world.run)
    assert "evaluate.proxy.gold" in raised.value.hint


def text_of(seed, n):
    rng = np.random.default_rng(seed)
    return " ".join("".join(rng.choice(list("abcdefghij"), 6)) for _ in range(n)).encode()


def test_overlap():
    gold, other = text_of(0, 200), text_of(1, 200)
    overlaps = Overlap([gold, b"short gold"], 0.2)
    assert overlaps(gold)
    assert overlaps(gold.replace(b" ", b"\n\n  "))
    assert not overlaps(other)
    assert not overlaps(b"")
    assert overlaps(b" short\tgold ")
    assert not overlaps(b"short geld")
    assert overlaps(text_of(2, 5000) + gold), "a long text that holds the gold one"
    assert overlaps(gold[300:500]), "a piece of gold"
    assert not overlaps(other + gold[:200]), "a seventh of gold, and an eighth of the text"
    assert Overlap([gold], 0.05)(other + gold[:200])


def test_shares_of_several_gold_texts_are_not_added_up():
    golds = [text_of(k, 200) for k in range(10)]
    quoting = b" ".join([text_of(99, 3000), *(g[:200] for g in golds)])
    assert not Overlap(golds, 0.2)(quoting)
    assert Overlap(golds, 0.2)(b" ".join([text_of(99, 3000), golds[3][:500]]))


def test_no_gold_overlaps_with_nothing():
    assert not Overlap([], 0.2)(b"some text")


def test_given_files_are_relative_to_the_settings(tmp_path):
    settings = (
        "sources: [{name: docs, path: docs.jsonl}]\nevaluate: {proxy: {gold: [{name: exam, path: exam/*.jsonl}]}}\n"
    )
    (tmp_path / "mira.yaml").write_text(settings)
    assert load_config(tmp_path / "mira.yaml").evaluate.proxy.gold[0].path == str(tmp_path / "exam/*.jsonl")
