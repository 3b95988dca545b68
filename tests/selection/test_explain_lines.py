"""Lines and texts explained: rejected lines in the words of the index, and records found by what they say."""

import gzip
import json
from pathlib import Path

import pytest

from mira.cli.tables import print_matches, print_rejected
from mira.config.settings import Config
from mira.corpus import build_index
from mira.errors import InputError, RunError
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.selection.explain.explain import explain_line
from mira.selection.explain.lines import line_of
from mira.selection.explain.results import RejectedLine
from mira.selection.explain.text import find_text
from support.selection_world import Item, World

LINES = (
    {"id": "a", "text": "The Quick\n brown fox"},
    "not json, yet it mentions a QUICK  brown fox",
    "",
    {"id": "a", "text": "A later copy."},
    {"id": "b", "text": "Stra\u00dfe und <b>fox</b>"},
    {"id": "c", "title": "no text, but a quick brown fox"},
)


def _write(path: Path, lines: tuple[object, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    path.write_bytes(gzip.compress(data.encode()) if path.suffix == ".gz" else data.encode())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("lines")
    _write(folder / "docs/one.jsonl", LINES)
    _write(folder / "docs/two.jsonl.gz", ({"id": "z", "text": "Another fox."},))
    _write(folder / "pairs.jsonl", tuple({"id": f"p{i}", "question": f"Fox {i}?", "answer": "Yes."} for i in range(60)))
    settings = Config.model_validate(
        {
            "run": folder / "run",
            "tokenizer": "cl100k_base",
            "shard_bytes": 1024,
            "sources": [
                {"name": "docs", "path": str(folder / "docs")},
                {"name": "pairs", "family": "qa", "path": str(folder / "pairs.jsonl")},
            ],
        }
    )
    build_index(settings, RunFolder(settings.run), Quiet())
    return settings


def run_of(config: Config) -> RunFolder:
    return RunFolder(config.run)


def test_a_rejected_line_is_explained_in_the_words_of_the_index(config: Config, capsys) -> None:
    told = explain_line(config, run_of(config), "one.jsonl:2")
    assert isinstance(told, RejectedLine)
    assert (told.source, told.reason) == ("docs", "bad_json")
    assert told.where.endswith("docs/one.jsonl:2")
    assert told.detail.startswith("not JSON")
    print_rejected(told)
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("docs/one.jsonl:2 is not a record: rejected as bad_json")
    assert told.detail in said[1]
    assert "field 'text' is missing" in line_of(config.corpus, run_of(config), "docs/one.jsonl:6").detail


def test_a_copy_names_the_record_that_stands(config: Config) -> None:
    told = line_of(config.corpus, run_of(config), "one.jsonl:4")
    assert isinstance(told, RejectedLine)
    assert told.reason == "duplicate_id"
    assert "its id 'a' is that of an earlier record" in told.detail
    assert told.detail.endswith("one.jsonl:1")


def test_a_line_that_is_a_record_leads_to_it(config: Config) -> None:
    corpus, run = config.corpus, run_of(config)
    assert line_of(corpus, run, "one.jsonl:1") == ("docs", "a")
    assert line_of(corpus, run, "two.jsonl.gz:1") == ("docs", "z")
    assert {line_of(corpus, run, i + 1, "pairs") for i in range(60)} == {("pairs", f"p{i}") for i in range(60)}
    with pytest.raises(RunError, match="nothing is selected yet"):
        explain_line(config, run, 1, "pairs")


@pytest.mark.parametrize(
    ("line", "source", "words"),
    [
        ("1", "", "could be of 3 files"),
        ("1", "docs", r"could be of 2 files\n.*--source docs --line one.jsonl:1"),
        ("0", "pairs", "expected a number from 1"),
        ("x", "", "expected a number from 1"),
        ("three.jsonl:1", "", r"no source has a file 'three.jsonl'\n.*one.jsonl, two.jsonl.gz, pairs.jsonl"),
        ("1", "nope", r"no source 'nope'\n.*docs, pairs"),
        ("one.jsonl:3", "", "the line is blank"),
        ("61", "pairs", "has no line 61: its last one is 60"),
    ],
)
def test_lines_that_are_not_there(config: Config, line: str, source: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        line_of(config.corpus, run_of(config), line, source)


def test_a_text_is_found_whatever_its_case_and_white_space(config: Config, capsys) -> None:
    found = find_text(config.corpus, run_of(config), "quick BROWN\tfox", Quiet())
    assert [(m.id, m.state) for m in found.matches] == [
        ("a", "not selected yet"), ("", "rejected: bad_json"), ("", "rejected: missing_field"),
    ]  # fmt: skip
    assert [m.where.rpartition("/")[2] for m in found.matches] == ["one.jsonl:1", "one.jsonl:2", "one.jsonl:6"]
    assert found.matches[0].excerpt == "The Quick brown fox"
    assert found.complete
    print_matches(found)
    said = capsys.readouterr().out
    assert "docs/a: not selected yet;" in said
    assert "3 matches" in said


def test_a_copy_is_found_and_said_to_be_one(config: Config) -> None:
    (match,) = find_text(config.corpus, run_of(config), "later copy", Quiet()).matches
    assert (match.id, match.state) == ("a", "rejected: duplicate_id")


def test_letters_are_folded_and_html_is_escaped(config: Config) -> None:
    found = find_text(config.corpus, run_of(config), "STRASSE", Quiet())
    assert [m.id for m in found.matches] == ["b"]
    assert "&lt;b&gt;fox" in found._repr_html_()
    assert "<b>fox" not in found._repr_html_()


def test_a_search_ends_at_its_limit(config: Config, capsys) -> None:
    found = find_text(config.corpus, run_of(config), "fox", Quiet(), source="pairs", limit=5)
    assert [m.id for m in found.matches] == [f"p{i}" for i in range(5)]
    assert not found.complete
    print_matches(found)
    assert "5 matches; the search ended there" in capsys.readouterr().out
    assert len(find_text(config.corpus, run_of(config), "fox", Quiet(), source="pairs", limit=60).matches) == 60
    nothing = find_text(config.corpus, run_of(config), "wolf", Quiet())
    assert (nothing.matches, nothing.complete) == ([], True)


def test_what_cannot_be_looked_for(config: Config) -> None:
    with pytest.raises(InputError, match="the text to look for is empty"):
        find_text(config.corpus, run_of(config), " \n", Quiet())
    with pytest.raises(InputError, match="no source 'nope'"):
        find_text(config.corpus, run_of(config), "fox", Quiet(), source="nope")


def test_matches_say_what_selection_did(tmp_path: Path) -> None:
    ants = [Item("good", [9.0] * 4, "one fox"), Item("bad", [1.0] * 4, "two fox")]
    world = World(tmp_path, {"ant": [ants]}, {"g": ["ant"]})
    world.select()
    found = find_text(world.config().corpus, world.run, "fox", Quiet())
    assert {m.id: m.state for m in found.matches} == {"good": "kept", "bad": "not kept: below_threshold"}
    told = explain_line(world.config(), world.run, 2)
    assert not isinstance(told, RejectedLine)
    assert (told.id, told.kept, told.where.endswith("part_000.jsonl:2")) == ("bad", False, True)
    assert "not kept (below_threshold)" in told._repr_html_()
