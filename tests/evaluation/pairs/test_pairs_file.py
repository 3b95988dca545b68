"""Files of pairs: what is read, and what is wrong with a line."""

import json
from pathlib import Path

import pytest

from mira.config.settings import Config
from mira.errors import InputError
from mira.evaluation.pairs.pairs_file import PairsRead, read_pairs

QA = {"question": "How?", "answer": "So."}


def corpus(folder: Path):
    sources = [
        {"name": "faq", "family": "qa", "path": "faq.jsonl", "fields": {"question": "title"}},
        {"name": "docs", "path": "docs.jsonl", "fields": {"text": "body"}},
    ]
    return Config.model_validate({"run": folder / "run", "sources": sources}).corpus


def read(folder: Path, *lines: object, source: str = "") -> PairsRead:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return read_pairs(corpus(folder), path, source)


def test_records_are_read_as_their_source_has_them(tmp_path: Path) -> None:
    faq = {"better": {"title": "How?", "answer": "So."}, "worse": {"title": "How?", "answer": "No."}, "source": "faq"}
    found = read(tmp_path, faq | {"kind": "k", "id": 7}, "", {"better": "a b", "worse": {"body": "b a"}})
    first, second = found.pairs
    assert (first.id, first.kind) == ("7", "k") and first.better.text == "Question:\nHow?\n\nAnswer:\nSo."
    assert first.better.family == "qa" and first.better.id == "pairs.jsonl:1:better" and first.worse.source == "faq"
    assert (second.id, second.better.source, second.better.text, second.worse.text) == (
        "pairs.jsonl:3", "docs", "a b", "b a",
    )  # fmt: skip
    assert found.assumed == {"docs": 1} and found.lines == 2 and not found.problems


@pytest.mark.parametrize(
    ("line", "reason", "told"),
    [
        ("{", "bad_json", "not JSON"),
        ("[1]", "not_an_object", "not a JSON object"),
        ({"better": "a"}, "missing_field", "field 'worse' is missing"),
        ({"better": "a", "worse": 3}, "bad_field", "field 'worse' is neither a text nor an object"),
        ({"better": "a", "worse": "b", "kind": [1]}, "bad_field", "field 'kind' is not a string"),
        ({"better": "a", "worse": "b", "source": "doc"}, "unknown_source", "did you mean 'docs'?"),
        ({"better": "a", "worse": "b", "source": "faq"}, "bad_field", "has family qa: question, answer"),
        ({"better": {"x": 1}, "worse": {"x": 2}}, "no_source", "of no source's form"),
        ({"better": {"title": "a"}, "worse": QA, "source": "faq"}, "missing_field", "field 'better.answer' is missing"),
        ({"better": "same", "worse": "same"}, "same_text", "are the same text"),
        ({"better": "a", "worse": "  ", "source": "docs"}, "empty_text", "field 'worse' is blank"),
        ('{"better": "a", "worse": "\\ud800", "source": "docs"}', "invalid_utf8", "lone surrogate"),
    ],
)
def test_what_is_wrong_with_a_line(tmp_path: Path, line: object, reason: str, told: str) -> None:
    found = read(tmp_path, {"better": "a", "worse": "b"}, line)
    assert found.rejected == {reason: 1} and len(found.pairs) == 1 and found.lines == 2
    (problem,) = found.problems
    assert problem.startswith(f"{tmp_path / 'pairs.jsonl'}:2: ") and told in problem


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_pairs(corpus(tmp_path), tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r":1: not JSON: there is no pair"):
        read(tmp_path, "{")
    with pytest.raises(InputError, match="JSONL"):
        (tmp_path / "p.parquet").write_bytes(b"x")
        read_pairs(corpus(tmp_path), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="--source: there is no source 'doc'; did you mean 'docs'"):
        read(tmp_path, {"better": "a", "worse": "b"}, source="doc")


def test_the_source_of_pairs_that_name_none_can_be_given(tmp_path: Path) -> None:
    found = read(
        tmp_path, {"better": {"title": "a", "answer": "b"}, "worse": {"title": "a", "answer": "c"}}, source="faq"
    )
    assert found.pairs[0].better.source == "faq" and not found.assumed
