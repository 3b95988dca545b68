import random

import numpy as np
import pytest

from mira.flags.words import hash_words, ngrams, shingles


def words_of(text):
    hashes, offsets = hash_words([text])
    assert offsets.tolist() == [0, len(hashes)]
    return hashes.tolist()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The quick-brown fox's snake_case, x=1", ["the", "quick", "brown", "fox", "s", "snake_case", "x", "1"]),
        ("Ｆｕｌｌ ÉTÉ straße नमस्ते", ["full", "été", "straße", "नमस्ते"]),
        ("数据mid训练。한국어 텍스트", ["数", "据", "mid", "训", "练", "한국어", "텍스트"]),
        ("  ...\n\n--  ", []),
        ("", []),
    ],
)
def test_words_are_cut_and_brought_to_one_form(text, plain):
    assert words_of(text) == [words_of(word)[0] for word in plain]


def test_hashes_tell_words_apart():
    words = [f"{a}{b}" for a in "abcdefghij" for b in range(2000)] + ["a" * n for n in range(1, 200)]
    hashes, offsets = hash_words(words)
    assert len(set(hashes.tolist())) == len(words) == len(offsets) - 1


def test_a_text_is_the_same_alone_and_among_others_however_long():
    rng = random.Random(0)
    texts = [" ".join(str(rng.randrange(10**6)) for _ in range(n)) for n in (0, 3, 40_000, 0, 1, 30_000)]
    texts += ["x" * 200_000 + " y", ""]
    hashes, offsets = hash_words(texts)
    for i, text in enumerate(texts):
        assert hashes[offsets[i] : offsets[i + 1]].tolist() == words_of(text)
    assert np.diff(offsets)[:6].tolist() == [0, 3, 40_000, 0, 1, 30_000]
    assert words_of(texts[2]) == [words_of(word)[0] for word in texts[2].split()]


def test_ngrams_stay_within_their_text_and_depend_on_order():
    hashes, offsets = hash_words(["a b c d", "a b", "", "b a c d e"])
    grams, places = ngrams(hashes, offsets, 3)
    assert np.diff(places).tolist() == [2, 0, 0, 3]
    assert len(set(grams.tolist())) == 5
    assert grams[0] == ngrams(*hash_words(["a b c"]), 3)[0][0]
    assert grams[4] == ngrams(*hash_words(["c d e"]), 3)[0][0]


def test_there_are_no_ngrams_of_nothing():
    for texts in ([], [""], ["a b"]):
        grams, places = ngrams(*hash_words(texts), 5)
        assert len(grams) == 0
        assert places.tolist() == [0] * (len(texts) + 1)


def test_short_texts_are_one_shingle():
    grams, places = shingles(*hash_words(["a b", "", "a b c d", "b a", "a b"]), 3)
    assert np.diff(places).tolist() == [1, 0, 2, 1, 1]
    alone = [shingles(*hash_words([text]), 3)[0].tolist() for text in ("a b", "", "a b c d", "b a", "a b")]
    assert grams.tolist() == [g for part in alone for g in part]
    assert grams[0] == grams[4] != grams[3]
