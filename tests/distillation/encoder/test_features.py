import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.distillation.encoder.agreement import agreement, spearman, within_source_spearman
from mira.distillation.encoder.ngrams import BUCKETS, hashed_ngrams
from mira.distillation.encoder.pair_features import PAIR, pair_features
from mira.distillation.encoder.structure import _LITERALS, _PATTERNS, LONG_WORD, STRUCTURE, _count_of, structure
from mira.distillation.unspaced import as_before


def feature(text: str, name: str) -> float:
    return float(structure([text])[0, STRUCTURE.index(name)])


def test_ngrams_count_every_window_once() -> None:
    row = hashed_ngrams(["abcab"])
    counts = np.exp(row.data - 1)
    assert counts.sum() == pytest.approx(5 + 4 + 3 + 2, abs=1e-4)
    assert row.shape == (1, BUCKETS) and row.dtype == np.float32
    assert (hashed_ngrams(["ABCab"]) != row).nnz == 0
    assert (hashed_ngrams(["bacab"]) != row).nnz > 0
    assert hashed_ngrams([""]).nnz == 0 and hashed_ngrams([]).shape == (0, BUCKETS)


def test_structure_names_what_it_sees() -> None:
    code = 'import os\n\n\ndef f(x):\n    """Doc."""\n    assert x == 1\n    return os.path.join(x)\n'
    prose = "# Title\n\nYou should read https://example.org because version 1.2.3 fixes #42.\n\n- one\n- two\n"
    for name, only_in_code in {
        "count_import": True, "count_function": True, "count_docstring": True, "count_assertion": True,
        "count_link": False, "count_heading": False, "count_version": False, "count_reference": False,
        "count_list_item": False, "count_reason": False, "count_advice": False,
    }.items():  # fmt: skip
        found = feature(code, name), feature(prose, name)
        assert (found[0] > 0, found[1] > 0) == (only_in_code, not only_in_code), name
    assert feature("a\nb\na\na", "distinct_lines") == 0.5
    assert feature("x(", "brackets_open") > feature("x()", "brackets_open") == 0


@pytest.mark.parametrize("text", ["", " ", "\n" * 9, "\x00", "é" * 5, "a" * 200_000, "𝕏 \u2028"])
def test_structure_is_finite_and_bounded(text: str) -> None:
    row = structure([text])
    assert row.shape == (1, len(STRUCTURE)) and np.isfinite(row).all() and np.abs(row).max() <= LONG_WORD


@pytest.mark.parametrize("piece", ["<a", "\n", " ", "`", '"', "(", "| ", "a.", "1", "=", "A", ">>> ", "\t-", ":a", "'"])
def test_no_text_makes_a_pattern_slow(piece: str) -> None:
    started = time.process_time()
    structure([piece * (60_000 // len(piece))])
    assert time.process_time() - started < 2


PIECES = [literal for literals in _LITERALS.values() for literal in literals]
PIECES += ["\n", " ", "(", "):", "x", "7", "99", "ed", "er", "#1", "[]", "-", ">", "e.g", "CVE", ": ", "In"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_no_match_is_missed_for_want_of_a_literal(text: str) -> None:
    for name in _LITERALS:
        assert _count_of(name, text) == len(_PATTERNS[name].findall(text)), name


def test_within_source_spearman_ignores_the_source() -> None:
    labels = np.array([1.0, 2, 3, 11, 12, 13])
    sources = ["a"] * 3 + ["b"] * 3
    by_source = np.array([1.0, 1, 1, 5, 5, 5])
    assert spearman(by_source, labels) > 0.8
    assert np.isnan(within_source_spearman(by_source, labels, sources))
    assert within_source_spearman(labels, labels, sources) == pytest.approx(1)
    assert within_source_spearman(by_source - labels % 10, labels, sources) == pytest.approx(-1)
    found = agreement(labels[:, None], (labels + 1)[:, None], sources)
    assert found == {"rho": pytest.approx(1), "rho_within": pytest.approx(1), "mae": 1.0}


CHINESE = (
    "因为锁被提前释放,所以任务会重复(例如,两个进程同时读取)。你应该先检查队列!这样对吗?\n一、先加锁。\n二、再读取。"
)


def test_structure_sees_chinese_sentences() -> None:
    for name, count in {
        "sentence": 5, "question": 1, "reason": 2, "example": 1, "advice": 1, "person": 1, "list_item": 2,
    }.items():  # fmt: skip
        assert np.expm1(feature(CHINESE, f"count_{name}")) == pytest.approx(count, rel=1e-5), name
    full_width = CHINESE.replace(",", "，").replace("(", "（").replace(")", "）").replace("!", "！").replace("?", "？")
    assert np.expm1(feature(full_width, "count_sentence")) == pytest.approx(5, rel=1e-5)
    assert np.expm1(feature(full_width, "count_question")) == pytest.approx(1, rel=1e-5)
    letters = sum(c.isalpha() for c in CHINESE)
    assert np.expm1(feature(CHINESE, "log_words")) == pytest.approx(letters, rel=1e-5), "a character is a word"
    assert feature(CHINESE, "word_mean") == 1
    assert feature(CHINESE, "ends_open") == 0
    assert feature(CHINESE.rstrip("。"), "ends_open") == 1
    assert feature("所以（见下文", "brackets_open") > 0 == feature("所以（见下文）", "brackets_open")
    mixed = "Use a lock, because 任务会重复。 It works."
    assert np.expm1(feature(mixed, "log_words")) == pytest.approx(4 + 5 + 2, rel=1e-5)
    assert np.expm1(feature(mixed, "count_sentence")) == pytest.approx(2, rel=1e-5)


def test_a_name_in_chinese_characters_changes_nothing_in_english() -> None:
    english = "Thanks to 林玮 for the fix, which removes a lock because two workers read one queue. " * 3
    with as_before(on=True):
        before = structure([english, CHINESE])
    after = structure([english, CHINESE])
    assert (before[0] == after[0]).all()
    assert (before[1] != after[1]).any()


def test_questions_and_answers_in_chinese_share_words() -> None:
    question, answer, other = "为什么任务会重复？", "任务会重复，因为锁被提前释放。", "今天天气很好。"
    found, unlike = (dict(zip(PAIR, pair_features(question, a), strict=True)) for a in (answer, other))
    assert found["overlap"] > 0.2 > unlike["overlap"] == 0
    assert (found["asks"], found["asks_why"], found["asks_how"]) == (1, 1, 0)
    assert dict(zip(PAIR, pair_features("如何加锁?", answer), strict=True))["asks_how"] == 1
