import random
import sys

import numpy as np
import pytest

from mira.config.settings import FlagSettings
from mira.errors import ConfigError
from mira.flags import minhash as module
from mira.flags.minhash import bands_for, load_minhash, similarity
from mira.flags.words import hash_words


def test_bands_find_pairs_at_the_threshold_and_are_as_wide_as_they_can_be():
    for permutations in (16, 128, 256):
        for jaccard in (0.5, 0.8, 0.95):
            bands, width = bands_for(jaccard, permutations)
            assert bands * width <= permutations
            recall = [1 - (1 - jaccard**w) ** (permutations // w) for w in (width, width + 1)]
            assert recall[0] >= 0.95 > recall[1]
    assert bands_for(1.0, 64) == (1, 64)


def test_without_rensa_the_user_is_told_what_to_install(monkeypatch):
    module._rensa.cache_clear()
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(ConfigError, match=r"mira-select\[dedup\]"):
        load_minhash(FlagSettings(near=True))
    module._rensa.cache_clear()


def pair(rng, shared, total):
    """Two texts of single-word shingles of Jaccard similarity shared / (2 total - shared)."""
    words = [f"w{rng.randrange(10**9)}" for _ in range(2 * total - shared)]
    return " ".join(words[:total]), " ".join(words[total - shared :])


def test_estimates_are_close_to_the_true_similarity():
    pytest.importorskip("rensa")
    minhash, rng = load_minhash(FlagSettings(near=True, shingle_words=1)), random.Random(0)
    for shared, total in ((0, 100), (50, 100), (160, 200), (95, 100), (100, 100)):
        pairs = [pair(rng, shared, total) for _ in range(100)]
        left, right = (minhash(*hash_words([p[i] for p in pairs])) for i in (0, 1))
        estimates = similarity(left.values, right.values)
        true = shared / (2 * total - shared)
        assert abs(estimates.mean() - true) < 0.02
        assert estimates.std() < 0.05
        found = (left.bands == right.bands).any(axis=1).mean()
        expected = 1 - (1 - true**minhash.width) ** minhash.n_bands
        assert abs(found - expected) < 0.1


def test_sketches_do_not_depend_on_the_batch():
    pytest.importorskip("rensa")
    minhash = load_minhash(FlagSettings(near=True))
    texts = ["one two three four five six", "", "!?", "seven", "one two three four five six " * 50]
    together = minhash(*hash_words(texts))
    assert together.has.tolist() == [True, False, False, True, True]
    for i, text in enumerate(texts):
        alone = minhash(*hash_words([text]))
        assert np.array_equal(alone.values[0], together.values[i])
        assert np.array_equal(alone.bands[0], together.bands[i])
