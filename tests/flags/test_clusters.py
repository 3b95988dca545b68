import random
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.corpus import Part, Record
from mira.family import FamilyName
from mira.flags.clusters import components
from mira.flags.signatures import _ties
from support.flags_world import World


def tie(name):
    source, _, id_ = name.partition("/")
    return int(_ties([Record(id_, source, FamilyName.TEXT, (Part("", "x"),))])[0])


def test_copies_across_sources_and_shards_are_of_the_smallest_hash(tmp_path):
    same = "def f():\n    return 1"
    world = World(
        tmp_path,
        {
            "ant": [{"a": same, "b": "other text"}, {"c": "def f():  return 1\n"}],
            "bee": [{"a": same, "d": "cafe\u0301", "e": "café", "f": "Café"}],
        },
    )
    summary = world.flag()
    copies = ["ant/a", "ant/c", "bee/a"]
    first = min(copies, key=tie)
    accents = sorted(["bee/d", "bee/e"], key=tie)
    expected = {c: first for c in copies if c != first} | {accents[1]: accents[0]}
    assert world.column("duplicate_of") == expected
    assert world.column("near_duplicate_of") == world.column("contaminated_by") == world.column("overlap") == {}
    counted = {s: c["duplicates"]["records"] for s, c in summary["sources"].items()}
    assert counted == {s: sum(k.startswith(s) for k in expected) for s in ("ant", "bee")}


def vary(rng, words, n):
    changed = list(words)
    for at in rng.sample(range(len(words)), n):
        changed[at] = f"w{rng.randrange(10**9)}"
    return " ".join(changed)


def corpus(seed):
    """Return id -> text: clusters of near duplicates, exact copies of some, and texts alone."""
    rng = random.Random(seed)
    texts = {}
    for cluster in range(6):
        words = [f"w{rng.randrange(10**9)}" for _ in range(300)]
        for member in range(3):
            texts[f"{cluster}-{member}"] = vary(rng, words, member)  # at most 3 words of 300: Jaccard above 0.9
        texts[f"{cluster}-copy"] = texts[f"{cluster}-1"]
        texts[f"{cluster}-far"] = vary(rng, words, 120)
    return texts


def test_near_duplicates_form_clusters(tmp_path):
    pytest.importorskip("rensa")
    texts = corpus(1)
    world = World(tmp_path, {"s": [texts]}, near=True)
    counted = world.flag()["sources"]["s"]
    assert [counted[what]["records"] for what in ("duplicates", "near_duplicates")] == [6, 12]
    exact, near = world.column("duplicate_of"), world.column("near_duplicate_of")
    assert len(exact) == 6
    of = {f"s/{i}": near.get(f"s/{i}") for i in texts}
    for cluster in range(6):
        members = [f"s/{cluster}-{m}" for m in (0, 1, 2, "copy")]
        distinct = [m for m in members if m not in exact]
        first = min(distinct, key=tie)
        assert {m for m in distinct if of[m] is None} == {first}
        assert {of[m] for m in distinct if m != first} == {first}
        (copy,) = set(members) - set(distinct)
        assert of[copy] == of[exact[copy]]
        assert of[f"s/{cluster}-far"] is None


@settings(max_examples=8)
@given(data=st.data())
def test_flags_do_not_depend_on_shards_and_order(data):
    pytest.importorskip("rensa")
    texts = {"ant": corpus(2), "bee": {f"b{k}": v for k, v in list(corpus(2).items())[::2]}}

    def flags(parts):
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), parts, near=True)
            world.flag()
            rows = world.rows()
            return {k: {c: v for c, v in r.items() if c != "row"} for k, r in rows.items()}

    parts = defaultdict(list)
    for source, of in texts.items():
        order = data.draw(st.permutations(list(of)))
        n = data.draw(st.integers(1, 4))
        parts[source] = [{i: of[i] for i in order[at::n]} for at in range(n)]
    plain = flags({source: [of] for source, of in texts.items()})
    assert sum(r["near_duplicate_of"] is not None for r in plain.values()) > 10
    assert flags(parts) == plain


def test_candidates_below_the_threshold_are_left_alone(tmp_path):
    pytest.importorskip("rensa")
    rng, texts = random.Random(3), {}
    for i in range(80):
        words = [f"w{rng.randrange(10**9)}" for _ in range(200)]
        texts |= {f"{i}-a": " ".join(words), f"{i}-b": vary(rng, words, 3)}  # Jaccard of about 0.86
    world = World(tmp_path, {"s": [texts]}, near=True)
    assert world.flag(jaccard=0.97)["sources"]["s"]["near_duplicates"]["records"] == 0
    assert world.flag(jaccard=0.7)["sources"]["s"]["near_duplicates"]["records"] == 80


def test_texts_without_words_are_no_near_duplicates(tmp_path):
    pytest.importorskip("rensa")
    world = World(tmp_path, {"s": [{"a": "!!!", "b": "???", "c": "...", "d": "..."}]}, near=True)
    world.flag()
    assert world.column("near_duplicate_of") == {}
    assert len(world.column("duplicate_of")) == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40), st.integers(0, 10))
def test_components_are_those_of_a_plain_search(pairs, seed):
    rng = random.Random(seed)
    ties = rng.sample(range(1000), 31)
    edges = np.array([[a, ties[a], b, ties[b]] for a, b in pairs], np.uint64).reshape(-1, 4)
    nodes, chosen = components(edges)
    label = list(range(31))
    for _ in range(31):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    seen = {n for pair in pairs for n in pair}
    first = {n: min((m for m in seen if label[m] == label[n]), key=lambda m: ties[m]) for n in seen}
    expected = {n: first[n] for n in sorted(seen) if first[n] != n}
    assert dict(zip(nodes.tolist(), chosen.tolist(), strict=True)) == expected
    assert nodes.tolist() == sorted(expected)
