import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.corpus import build_index
from mira.errors import InputError, RunError
from mira.progress import Quiet
from mira.selection.methods import ngrams
from mira.selection.methods.dsir import fit_dsir, log_ratio, weigh
from mira.selection.methods.ngrams import Featuriser, plain_buckets
from mira.selection.stage import selection_inputs
from support.selection_world import Item, World, words

AUTHORS = json.loads((Path(__file__).parent / "data" / "dsir_authors.json").read_text())


def counts_of(text, rule="nltk-3.9"):
    return sum(f.counts(10_000) for f in Featuriser(rule=rule)([text]))


def by_text(featurise, texts):
    found = []
    for features in featurise(texts):
        for i in range(features.n_texts):
            ones = features.unigrams[features.text_of_unigram == i].tolist()
            twos = features.bigrams[features.text_of_bigram == i].tolist()
            found.append((ones, twos))
    return found


@pytest.mark.parametrize(("rule", "told"), [("nltk-3.9", "counts"), ("nltk-3.10", "counts_nltk_3.10")])
@pytest.mark.parametrize("at", range(len(AUTHORS["raw"])))
def test_buckets_are_those_of_the_authors_package(at, rule, told):
    counts = counts_of(AUTHORS["raw"][at], rule)
    assert [[int(b), int(counts[b])] for b in np.flatnonzero(counts)] == AUTHORS[told][at]


def lengths(text, rule):
    return next(int(f.lengths()[0]) for f in Featuriser(rule=rule)([text]))


@pytest.mark.parametrize(
    ("text", "unicode", "nltk_310", "nltk_39"),
    [
        ("हिन्दी में लिखा", 3, 3, 12),  # a vowel sign is part of its word
        ("x² e\u0301te\u0301", 3, 3, 5),  # a raised digit is no decimal digit; an accent of its own is a mark
        ("我们走。你们 go", 7, 4, 4),  # every character of Chinese
        ("ภาษาไทย", 7, 1, 1),  # and of Thai,
        ("ที่นี่", 2, 1, 4),  # with its marks
        ("snake_case, a‿b", 3, 3, 5),
        ("plain text, and 3.5", 7, 7, 7),
    ],
)
def test_what_a_word_is(text, unicode, nltk_310, nltk_39):
    assert [lengths(text, rule) for rule in ("unicode", "nltk-3.10", "nltk-3.9")] == [unicode, nltk_310, nltk_39]


def test_log_weights_are_those_of_the_authors_package():
    target, raw = (sum(counts_of(text) for text in AUTHORS[name]) for name in ("target", "raw"))
    weights, tokens = weigh(AUTHORS["raw"], log_ratio(target, raw), rule="nltk-3.9")
    assert np.abs(weights - AUTHORS["log_w"]).max() < 1e-9
    # theirs says -0 or 0 tokens of an empty text, and rounds down
    assert tokens.tolist() == [max(t, 0) for t in AUTHORS["tokens"]]


def test_the_authors_package_agrees_live():
    package = pytest.importorskip("data_selection.hashed_ngram_dsir")
    nltk = tuple(map(int, version("nltk").split(".")[:2]))
    for text in AUTHORS["raw"]:
        counts = counts_of(text, "nltk-3.10" if nltk >= (3, 10) else "nltk-3.9")
        assert np.array_equal(package.get_ngram_counts(text), counts)


TEXT = st.text(st.sampled_from("aAbB_ .,;\n\t é漢😀\x00\x1cİßǅ²\u2028Σ\ud83d\ude00हिที่Ⓐ"), max_size=60)
RULES = st.sampled_from(["unicode", "nltk-3.10", "nltk-3.9"])


@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from([1, 8, 1 << 16]), RULES)
def test_a_batch_gives_what_its_texts_give_plainly(texts, batch, rule):
    before, ngrams._BATCH = ngrams._BATCH, batch
    try:
        found = by_text(Featuriser(997, rule), texts)
    finally:
        ngrams._BATCH = before
    assert found == [tuple(part.tolist() for part in plain_buckets(text, 997, rule)) for text in texts]


def test_a_crowded_table_forgets_and_stays_right(monkeypatch):
    monkeypatch.setattr(ngrams, "_UNIGRAM_BITS", 2)
    monkeypatch.setattr(ngrams, "_BIGRAM_BITS", 2)
    texts = [f"{a} {b}{c}" for a in "abcdef" for b in "xyz" for c in "12"] * 2
    assert by_text(Featuriser(), texts) == [tuple(p.tolist() for p in plain_buckets(t, 10_000)) for t in texts]


def test_a_weight_does_not_depend_on_the_other_texts():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 50, n)) for n in rng.integers(0, 300, 40)]
    log_diff = rng.normal(size=10_000)
    together = weigh(texts, log_diff)[0].tolist()
    assert together == [float(weigh([text], log_diff)[0][0]) for text in texts]
    summed, n = weigh(texts, log_diff)
    assert np.allclose(weigh(texts, log_diff, mean=True)[0] * np.maximum(2 * n - 1, 1), summed)


def test_laplace_smooths_both_sides():
    target, raw = np.array([3, 1, 0]), np.array([0, 1, 3])
    assert np.allclose(
        log_ratio(target, raw, 1.0), np.log([4 / 7, 2 / 7, 1 / 7]) - np.log([1 / 7, 2 / 7, 4 / 7]), atol=1e-6
    )


@pytest.fixture
def world(tmp_path):
    like = [Item(f"like{i}", [5.0], f"green apples and red pears number {i} " * 4, overall=90.0) for i in range(20)]
    other = [
        Item(f"other{i}", [5.0], f"import numpy as np; x = {i}; return x + 1 " * 4, overall=10.0) for i in range(20)
    ]
    short = [Item("short", [5.0], "green apples")]
    (tmp_path / "target.jsonl").write_text(
        "".join(json.dumps({"id": str(i), "text": f"red apples and green pears number {i}"}) + "\n" for i in range(50))
    )
    return World(
        tmp_path, {"ant": [like[:10] + other[:10], like[10:] + other[10:]], "bee": [short]}, {"g": ["ant", "bee"]}
    )


def settings(world, **more):
    target = {"name": "wanted", "path": str(world.folder / "target.jsonl")}
    return {"method": "dsir", "scope": "global", "dsir": {"target": target, "min_words": 5, "noise": False, **more}}


def test_what_is_like_the_target_is_kept_and_short_records_are_unscored(world):
    told = world.select(budget="50%", **settings(world))
    kept = {id_ for _, id_ in world.kept()}
    assert len(kept) >= 18
    assert all(id_.startswith("like") for id_ in sorted(kept)[:18])
    assert world.record("short")["reason"] == "unscored:too_short"
    assert told["sources"]["bee"]["unscored"] == 1


def test_noise_is_seeded_by_id_and_small_against_a_sum(world):
    plain = world.select(budget="40%", **settings(world)) and [r["quality"] for r in world.rows("ant")]
    world.select(budget="40%", **settings(world, noise=True))
    noisy = [r["quality"] for r in world.rows("ant")]
    world.select(budget="40%", **settings(world, noise=True))
    assert noisy == [r["quality"] for r in world.rows("ant")]
    noise = np.array(noisy) - np.array(plain)
    assert 0.1 < np.abs(noise).mean() < 3


def test_the_fit_is_on_the_corpus_and_does_not_depend_on_shards(world, tmp_path):
    config = world.config(**settings(world))
    fitted = fit_dsir(selection_inputs(config, world.run, Quiet()))
    one = World(tmp_path / "one", {s: [[i for p in parts for i in p]] for s, parts in world.sources.items()}, {})
    (one.folder / "target.jsonl").write_bytes((world.folder / "target.jsonl").read_bytes())
    whole = fit_dsir(selection_inputs(one.config(**settings(one)), one.run, Quiet()))
    assert np.array_equal(whole.log_diff, fitted.log_diff)
    raw = sum(counts_of(i.text) for parts in world.sources.values() for part in parts for i in part)
    lines = (world.folder / "target.jsonl").read_text().splitlines()
    target = sum(counts_of(json.loads(line)["text"]) for line in lines)
    assert np.array_equal(fitted.log_diff, log_ratio(target, raw))
    sampled = fit_dsir(selection_inputs(world.config(**settings(world, fit_ngrams=600)), world.run, Quiet()))
    assert not np.array_equal(sampled.log_diff, fitted.log_diff)


def test_another_field_of_the_same_files_is_counted_anew(world):
    config = world.config(**settings(world))
    before = fit_dsir(selection_inputs(config, world.run, Quiet()))
    mapped = [source.model_copy(update={"fields": {"text": "id"}}) for source in config.sources]
    config = config.model_copy(update={"sources": mapped})
    build_index(config, world.run, Quiet())
    assert not np.array_equal(fit_dsir(selection_inputs(config, world.run, Quiet())).log_diff, before.log_diff)


def test_a_target_that_is_not_there_and_labels_that_are_not_there_are_told(world):
    (world.folder / "target.jsonl").unlink()
    with pytest.raises(InputError, match="wanted"):
        world.select(**settings(world))
    with pytest.raises(RunError, match="mira label"):
        world.select(method="dsir", scope="global")


def test_top_judged_takes_the_best_labelled_records(world):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(i.id, "ant", 0, i.overall) for part in world.sources["ant"] for i in part]
    rows += [("like0", "ant", 1, 0.0), ("gone", "elsewhere", 0, 100.0)]
    path = world.run.labels("g")
    path.parent.mkdir(parents=True)
    pq.write_table(
        pa.table([list(c) for c in zip(*rows, strict=True)], names=["id", "source", "replicate", "overall"]), path
    )
    wanted = settings(world)
    wanted["dsir"] = {"target": "top_judged", "min_words": 5, "noise": False}
    world.select(budget="40%", **wanted)
    assert all(id_.startswith("like") for _, id_ in world.kept())


def test_long_texts_go_the_plain_way(monkeypatch):
    monkeypatch.setattr(ngrams, "_BATCH", 1)
    texts = [words(200), "a b", words(90)]
    assert by_text(Featuriser(), texts) == [tuple(p.tolist() for p in plain_buckets(t, 10_000)) for t in texts]
