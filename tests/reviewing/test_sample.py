from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mira.errors import RunError
from mira.reviewing.journal import HumanJudgement, add
from mira.reviewing.sample import draw, load_sample, sample_of, sample_path
from support.review_world import Review
from support.selection_world import World, items


def test_the_sample_weighs_back_to_the_corpus(review: Review) -> None:
    cards = review.sample.cards
    assert len(cards) == 60
    assert len({card.key for card in cards}) == 60
    assert [card.place for card in cards] == list(range(1, 61))
    assert sum(1 / card.inclusion for card in cards) == pytest.approx(180)  # all records, exactly
    for stratum, n in Counter(card.stratum for card in cards).items():
        size = {card.stratum_records for card in cards if card.stratum == stratum}
        chance = {card.inclusion for card in cards if card.stratum == stratum}
        assert chance == {n / size.pop()}
    assert {card.group for card in cards} == {"text_group_A", "text_group_B"}


def test_records_near_the_threshold_are_drawn_more_often(review: Review) -> None:
    chance = {}
    for card in review.sample.cards:
        chance.setdefault(card.stratum.rpartition(", ")[2], set()).add(card.inclusion)
    assert max(chance["far"]) < min(chance["near"])
    edges = {
        (source, kept): [
            r["quality"] for r in pq.read_table(review.run.selection(source)).to_pylist() if r["kept"] is kept
        ]
        for source in ("ant", "bee", "cat")
        for kept in (True, False)
    }
    for card in review.sample.cards:
        ranked = sorted(edges[card.source, card.kept], reverse=not card.kept)
        if card.stratum.endswith("near"):
            assert ranked.index(card.quality) < len(ranked) / 4 + 1


def test_the_sample_depends_on_the_seed_and_not_on_files(tmp_path: Path) -> None:
    found = []
    for n, cut in enumerate((1, 7)):
        given = items("ant", 80)
        parts = [given[i::cut] for i in range(cut)]
        world = World(tmp_path / str(n), {"ant": parts}, {"g": ["ant"]})
        world.select(scope="global", write_selected=False)
        config = world.config()
        settings = config.review.model_copy(update={"sample": 20})
        found.append([card.key for card in draw(settings, 0, world.run).cards])
        assert [card.key for card in draw(settings, 1, world.run).cards] != found[-1]
    assert found[0] == found[1]


def test_the_order_says_nothing_of_the_stratum(review: Review) -> None:
    kept = [card.kept for card in review.sample.cards]
    assert 0.2 < sum(kept[:30]) / 30 < 0.8


def test_a_sample_follows_the_settings_until_it_is_judged(own_review: Review) -> None:
    review = own_review
    smaller = review.config.review.model_copy(update={"sample": 30})
    found, current = sample_of(smaller, 0, review.run)
    assert (len(found.cards), current) == (30, True)
    add(review.run, [HumanJudgement(*found.cards[0].key, "ann", "keep")])
    before = sample_path(review.run).read_bytes()
    found, current = sample_of(review.config.review, 0, review.run)
    assert (len(found.cards), current) == (30, False)
    review.project.select(budget="20%", scope="source")
    assert sample_of(smaller, 0, review.run)[1] is False
    assert sample_path(review.run).read_bytes() == before


def test_a_damaged_sample_is_refused_and_kept(review: Review) -> None:
    sample_path(review.run).write_bytes(b"PAR1 nonsense")
    with pytest.raises(RunError, match=r"sample\.parquet: cannot be read"):
        load_sample(review.run)
    with pytest.raises(RunError):
        sample_of(review.config.review, 0, review.run)
    assert sample_path(review.run).read_bytes() == b"PAR1 nonsense"


def test_without_a_selection_there_is_no_sample(tmp_path: Path) -> None:
    world = World(tmp_path, {"ant": [items("ant", 5)]}, {"g": ["ant"]})
    with pytest.raises(RunError, match="nothing is selected yet"):
        draw(world.config().review, 0, world.run)


def test_a_selection_without_quality_has_a_sample_too(tmp_path: Path) -> None:
    world = World(tmp_path, {"ant": [items("ant", 50)]}, {"g": ["ant"]})
    world.select(scope="global", method="random", write_selected=False)
    cards = draw(world.config().review.model_copy(update={"sample": 10}), 0, world.run).cards
    assert {card.stratum for card in cards} == {"ant: kept, unranked", "ant: dropped, unranked"}
    assert all(card.quality is None for card in cards)
