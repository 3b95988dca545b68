"""What the command line prints after a stage."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mira.cli.fitted import print_fitted, wide_console
from mira.cli.tables import print_comparison, print_flags, print_summary
from mira.evaluation.results import ComparisonResult, KeptTokens, MethodResult, SourceTokens
from mira.run_folder.files import write_json
from mira.run_folder.paths import RunFolder


def _selected(tmp_path: Path, method: str, **reasons: dict[str, int]) -> str:
    run = RunFolder(tmp_path)
    sources: dict[str, Any] = {
        name: {
            "rows": sum(told.values()), "records_in": sum(told.values()), "kept": told.get("kept", 0), "dropped": 0,
            "unscored": 0, "rejected": 0, "tokens_in": 10, "tokens_kept": 5, "reasons": told,
        }
        for name, told in reasons.items()
    }  # fmt: skip
    write_json(run.thresholds, {"method": method, "scope": "source", "budget_tokens": 5, "sources": sources})
    out = io.StringIO()
    print_summary(run, Console(file=out, width=180))
    return out.getvalue()


def test_a_reason_that_leaves_much_of_a_source_unranked_is_told(tmp_path: Path) -> None:
    said = _selected(
        tmp_path, "dsir", a={"kept": 11, "unscored:too_short": 89}, b={"kept": 99, "unscored:too_short": 1}
    )
    expected = "Not ranked as too_short (fewer words than select.dsir.min_words): "
    assert expected + "90 of 200 records (45.0%): 89 of a, 1 of b" in said
    said = _selected(tmp_path, "mira", a={"kept": 5, "below_threshold": 93, "unscored:overflow": 2})
    assert "Not ranked" not in said, "neither what is rare nor what is ordinary"


def test_what_flags_left_out_is_told_however_little_it_is(tmp_path: Path) -> None:
    said = _selected(tmp_path, "random", a={"kept": 998, "flagged:contaminated": 2}, b={"kept": 1000})
    assert "Left out as contaminated (flags): 2 of 2,000 records (0.1%): 2 of a" in said


def test_flags_are_counted_by_source_kind_and_benchmark(tmp_path: Path) -> None:
    def counted(n: int) -> dict[str, int]:
        return {"records": n, "tokens": 10 * n}

    of_docs = {"records": counted(50), "duplicates": counted(7), "near_duplicates": counted(3)}
    of_docs |= {"contaminated": counted(5), "by": {"gsm": counted(4), "mmlu": counted(2)}}  # type: ignore[dict-item]
    summary = {"sources": {"docs": of_docs}, "benchmarks": {"gsm": {}, "mmlu": {}}}
    run = RunFolder(tmp_path)
    write_json(run.manifest, {"stages": {"flag": {"summary": summary}}})
    out = io.StringIO()
    print_flags(run, Console(file=out, width=180))
    row = next(line for line in out.getvalue().splitlines() if "docs" in line)
    assert [int(word) for word in row.split() if word.isdigit()] == [50, 7, 3, 5, 4, 2]
    assert "gsm" in out.getvalue()
    assert f"Flags: {tmp_path / 'flags'}" in out.getvalue()


METHODS = ("raw", "random", "ppl", "dsir", "dataman", "mira", "an_installed_method")


def _comparison(n_sources: int) -> ComparisonResult:
    sources = [f"source_{i:02d}_of_the_corpus" for i in range(n_sources)]
    methods = {
        name: MethodResult(
            tokens_kept=10, records_kept=1_234_567, mean_tokens=777.0, length_rho=-0.25, duplicate_tokens=0.05,
            sources={s: KeptTokens(i, 0.1) for i, s in enumerate(sources)},
        )
        for name in METHODS
    }  # fmt: skip
    jaccard = {"raw|mira": 0.5}
    return ComparisonResult(
        budget_tokens=10, scope="group", sources=dict.fromkeys(sources, SourceTokens(100)), methods=methods,
        jaccard=jaccard,
    )  # fmt: skip


@pytest.mark.parametrize("width", [30, 50, *range(70, 84), 180])
def test_a_comparison_fits_its_terminal(width: int) -> None:
    out = io.StringIO()
    print_comparison(_comparison(21), Console(file=out, width=width))
    text = out.getvalue()
    assert max(map(len, text.splitlines()[:-1])) <= width, "but for the sentence at the end, which the terminal breaks"
    assert text.count("1,234,567") == len(METHODS), "every figure once, whole"
    assert text.count("20%") == len(METHODS), "every share of the last source once"
    assert text.count("NDCG") == 1
    assert all(line[0] == line[-1] for line in text.splitlines() if line.startswith(("┃", "│"))), "whole rows"
    if width >= 80:
        assert all(f"source_{i:02d}_of_the_corpus" in text for i in range(21))


def test_few_columns_stay_one_table_and_a_total_follows_below_a_line() -> None:
    out = io.StringIO()
    rows = [("ant", "1", "2"), ("bee", "3", "4")]
    print_fitted(Console(file=out, width=80), "Title", ("source", "a", "b"), rows, ("all", "4", "6"))
    text = out.getvalue()
    assert text.count("source") == 1
    assert [line.split("│")[1].strip() for line in text.splitlines() if "│" in line] == ["ant", "bee", "all"]


def test_the_width_of_a_pipe_is_what_columns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert wide_console().width == 180
    monkeypatch.setenv("COLUMNS", "72")
    assert wide_console().width == 72
