from importlib import resources
from pathlib import Path

import orjson
import pytest

from mira.errors import InputError
from mira.rubric.rubric import Anchor, Reference, Rubric

DATA = Path(str(resources.files("mira.demo_project") / "data"))


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_rubric_file_survives_a_round_trip(letter: str, tmp_path: Path) -> None:
    path = DATA / f"text_group_{letter}_dim_anchors.jsonl"
    rubric = Rubric.load(path)
    assert rubric.group == f"text_group_{letter}"
    assert len(rubric.anchors) == 15
    rubric.save(tmp_path / path.name)
    read = [[orjson.loads(line) for line in p.read_bytes().splitlines()] for p in (path, tmp_path / path.name)]
    assert read[0] == read[1]
    assert Rubric.load(tmp_path / path.name).hash == rubric.hash


def test_hash_changes_with_any_part() -> None:
    anchor = Anchor("A1", "Depth", 3, Reference("r", 5.0, "why"))
    other = Anchor("A1", "Depth", 3, Reference("r", 5.0, "why not"))
    hashes = {Rubric("g", (a,), n).hash for a in (anchor, other) for n in (12, 3)}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "slots are []"),
        ('{"slot": "A1", "name": "x"}\n{"slot": "A1", "name": "y"}\n', "slots are ['A1', 'A1']"),
        ('{"slot": "A2", "name": "x"}\n', "slots are ['A2']"),
        ('{"slot": "A1"}\n', "anchors.jsonl:1: not an anchor: field 'name' is missing; found keys: slot"),
        ('{"slot": "A1", "name": "x"}\n[]\n', "anchors.jsonl:2: not an anchor"),
        ("not json\n", "anchors.jsonl:1: not an anchor"),
        ('\n{"slot": "A1", "name": "x", "exemplar": 5}\n', "anchors.jsonl:2: not an anchor"),
    ],
)
def test_wrong_rubric_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "anchors.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Rubric.load(path)
    assert message in str(caught.value)


def test_a_missing_rubric_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the rubric"):
        Rubric.load(tmp_path / "none.jsonl")


def test_names_may_repeat(tmp_path: Path) -> None:
    path = tmp_path / "text_group_D_dim_anchors.jsonl"
    path.write_text('{"slot": "A1", "name": "x"}\n{"slot": "A2", "name": "x"}\n')
    assert [a.name for a in Rubric.load(path).anchors] == ["x", "x"]


def test_a_rubric_of_slots_and_names_alone_survives_a_round_trip(tmp_path: Path) -> None:
    given, kept = tmp_path / "given.jsonl", tmp_path / "kept.jsonl"
    given.write_text('{"slot": "A1", "name": "Depth"}\n{"slot": "A2", "name": "Clarity"}\n')
    rubric = Rubric.load(given, "text_group_A")
    rubric.save(kept)
    assert Rubric.load(kept, "text_group_A") == rubric
