import time

import numpy as np
import pytest

from mira.distillation.encoder.agreement import agreement, spearman, within_source_spearman
from mira.distillation.encoder.ngrams import BUCKETS, hashed_ngrams
from mira.distillation.encoder.structure import LONG_WORD, STRUCTURE, structure


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
