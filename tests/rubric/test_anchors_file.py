"""Anchors files of other people: every plausible form is read, written in mira's form, and read again the same."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mira.errors import InputError
from mira.judging.prompt import build_prompt
from mira.rubric.anchors_file import ALIASES, CONTAINERS, REFERENCE_ALIASES
from mira.rubric.rubric import Rubric

NAMES = ("Practical Actionability", "Signal-to-Noise Ratio", "Practical Actionability")
REFERENCE = {"score": 7, "reason": "Names the failing call."}


def _lines(*values: Any) -> str:
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values)


def _read(tmp_path: Path, text: str) -> Rubric:
    path = tmp_path / "text_group_D_dim_anchors.jsonl"
    path.write_text(text, encoding="utf-8")
    return Rubric.load(path)


def _problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        _read(tmp_path, text)
    return str(caught.value)


FORMS = {
    "dimension": _lines(*({"dimension": n} for n in NAMES)),
    "anchor_dim": _lines(*({"anchor_dim": n, "size": 9} for n in NAMES)),
    "anchor": _lines(*({"anchor": n, "count": 9} for n in NAMES)),
    "label and a number": _lines(*({"id": i, "label": n} for i, n in enumerate(NAMES))),
    "label and a slot": _lines(*({"id": f"A{i}", "label": n} for i, n in enumerate(NAMES, 1))),
    "slot as a number": _lines(*({"slot": i, "name": n} for i, n in enumerate(NAMES, 1))),
    "slot counted from 0": _lines(*({"slot": i, "name": n} for i, n in enumerate(NAMES))),
    "slot in brackets, backwards": _lines(*reversed([{"slot": f"[A{i}]", "name": n} for i, n in enumerate(NAMES, 1)])),
    "the slot is the anchor": _lines(*({"anchor": f"A{i}", "dimension": n} for i, n in enumerate(NAMES, 1))),
    "clusters": _lines(*({"cluster_id": (2, 0, 1)[i], "title": n} for i, n in enumerate(NAMES))),
    "ids of records": _lines(*({"id": (91, 7, 44)[i], "title": n} for i, n in enumerate(NAMES))),
    "a JSON array": json.dumps([{"name": n} for n in NAMES], indent=2),
    "an array of names": json.dumps(NAMES),
    "an object with a list": json.dumps({"group": "D", "anchors": [{"Anchor Dim": n} for n in NAMES]}, indent=2),
    "an object of slots": json.dumps({f"A{i}": n for i, n in enumerate(NAMES, 1)}),
    "slots inside a rubric": json.dumps({"rubric": {f"A{i}": {"name": n} for i, n in enumerate(NAMES, 1)}}),
    "the anchor is its exemplar": _lines(*({"anchor": {"dimension": n, **REFERENCE}} for n in NAMES)),
    "a byte order mark": "\ufeff" + _lines(*({"name": n} for n in NAMES)),
    "nulls": _lines(*({"name": n, "cluster_size": None, "references": None, "exemplar": None} for n in NAMES)),
}


@pytest.mark.parametrize("form", FORMS)
def test_plausible_forms_are_read(form: str, tmp_path: Path) -> None:
    rubric = _read(tmp_path, FORMS[form])
    assert [(a.slot, a.name) for a in rubric.anchors] == list(zip(("A1", "A2", "A3"), NAMES, strict=True))
    rubric.save(tmp_path / "kept.jsonl")
    assert Rubric.load(tmp_path / "kept.jsonl", rubric.group) == rubric


@pytest.mark.parametrize("field", ["references", *ALIASES["references"]])
@pytest.mark.parametrize(
    "value",
    [
        [REFERENCE],
        REFERENCE,
        {"low": REFERENCE},
        [{"Rating": "7/10", "rationale": "Names the failing call."}],
        [{"score": "7", "justification": "Names the failing call."}],
    ],
)
def test_examples_under_other_names_reach_the_prompt(field: str, value: Any, tmp_path: Path) -> None:
    rubric = _read(tmp_path, _lines(*({"name": n, field: value} for n in NAMES)))
    assert [r.score for r in rubric.anchors[0].references] == [7.0]
    assert "[A1] Practical Actionability: 7/10 — Names the failing call." in build_prompt(rubric).system


@pytest.mark.parametrize(
    "entry",
    [
        {"exemplar": "Names the failing call."},
        {"example": {"reason": "Names the failing call."}},
        {"rationale": "Names the failing call."},
        {"references": ["Names the failing call."]},
    ],
)
def test_a_reason_without_a_score_is_shown_without_one(entry: dict[str, Any], tmp_path: Path) -> None:
    rubric = _read(tmp_path, _lines({"name": "Depth", **entry}))
    assert "[A1] Depth — Names the failing call." in build_prompt(rubric).system.splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_lines({"name": "x"}, {"foo": "x", "Bar Baz": 1}), ":2: not an anchor: field 'name' is missing"),
        (_lines({"name": "x"}, {"foo": "x", "Bar Baz": 1}), "; found keys: foo, bar_baz"),
        (_lines(*({"id": i, "name": "x"} for i in (2, 0, 1))), "numbered 2, 0, 1, ...: another order than theirs"),
        (_lines({"slot": "A1", "name": "x"}, {"name": "y"}), "entry 2 names no slot, others do"),
        (_lines({"slot": "A1", "name": "x"}, {"slot": "A3", "name": "y"}), "slots are ['A1', 'A3']"),
        (_lines({"slot": "first", "name": "x"}), "slot is 'first', expected A1, A2, ..."),
        (json.dumps([{"name": "x"}, 5]), "entry 2: not an anchor: expected an object, found a number"),
        (_lines({"name": " "}), "name is empty"),
        (_lines({"name": 5}), "name is a number, not text"),
        (_lines({"name": "x", "examples": [{"text": "t", "score": 3}]}), "no reason; found keys: text, score"),
        (_lines({"name": "x", "examples": 3}), "references is a number, not a list"),
        (_lines({"name": "x", "exemplar": {"reason": "r", "score": 85}}), "score is 85, not between 0 and 10"),
        (_lines({"name": "x", "exemplar": {"reason": "r", "score": "high"}}), "score is 'high', not a number"),
        (_lines({"name": "x", "exemplar": {"reason": "r", "record": 2**64}}), "not a whole number below 2**64; write"),
        (_lines({"name": "x", "cluster_size": "many"}), "cluster_size is 'many', not a number"),
        (_lines({"name": "x", "cluster_size": -1}), "cluster_size is -1"),
        (_lines({"name": "x", "cohesion": "nan"}), "cohesion is 'nan', not a number"),
        (_lines({"name": "x", "near_names": [1]}), "near_names is not a list of names"),
        ('{"name": "x"}\n{"name": ', ":2: not an anchor: not JSON"),
        ('{"name": "\\ud800"}', ":1: not an anchor: not JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text: str, message: str, tmp_path: Path) -> None:
    assert message in _problem(tmp_path, text)


def test_an_exemplar_that_an_earlier_mira_wrote_without_its_empty_fields(tmp_path: Path) -> None:
    kept = _read(tmp_path, _lines({"slot": "A1", "name": "x", "cluster_size": 0, "exemplar": {"score": 0.0}}))
    assert kept.hash == _read(tmp_path, _lines({"slot": "A1", "name": "x"})).hash


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("A3"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_REFERENCE = st.fixed_dictionaries(
    {"reason": _TEXT},
    optional={
        "score": st.floats(0, 10) | st.none(),
        "record": _TEXT | st.integers(0, 2**64 - 1),
        **dict.fromkeys(("source", "dimension", "rationale", "name"), _TEXT),
    },
)
_ANCHOR = st.fixed_dictionaries(
    {"name": _TEXT.filter(str.strip)},
    optional={
        "cluster_size": st.integers(0, 2**53) | st.none(),
        "cohesion": st.floats(-1, 1),
        "exemplar": _REFERENCE | _TEXT,
        "near_names": st.lists(_TEXT, max_size=3),
        "references": st.lists(_REFERENCE, max_size=3),
    },
)
_KEYS = [*ALIASES, *(alias for aliases in ALIASES.values() for alias in aliases), "foo"]
_STRANGE = st.dictionaries(st.sampled_from(_KEYS), _JSON | _REFERENCE | st.lists(_REFERENCE, max_size=2), max_size=4)


def _survives(text: str) -> bool:
    """Return whether a file is read; if so, what is written of it is the same, and its prompt can be made."""
    with TemporaryDirectory() as folder:
        given, kept = Path(folder) / "given_dim_anchors.jsonl", Path(folder) / "kept.jsonl"
        given.write_text(text, encoding="utf-8")
        try:
            rubric = Rubric.load(given)
        except InputError as error:
            assert "given_dim_anchors.jsonl" in str(error)
            return False
        rubric.save(kept)
        again = Rubric.load(kept, rubric.group)
        assert again == rubric
        assert again.hash == rubric.hash
        assert build_prompt(again).system == build_prompt(rubric).system
        return True


@given(st.lists(_ANCHOR, min_size=1, max_size=4), st.booleans())
def test_what_is_read_is_written_and_read_again_the_same(entries: list[dict[str, Any]], array: bool) -> None:
    assert _survives(json.dumps(entries) if array else _lines(*entries))


@given(st.lists(_STRANGE, min_size=1, max_size=3), st.sampled_from([None, *CONTAINERS]))
@example([{"anchor": {"dimension": "x"}}], None)
@example([{"slot": "0", "name": "A1"}], None)
def test_strange_entries_are_refused_or_survive(entries: list[dict[str, Any]], container: str | None) -> None:
    _survives(_lines(*entries) if container is None else json.dumps({container: entries}))


def test_the_page_names_every_alias() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "anchors.md").read_text(encoding="utf-8")
    for field, aliases in (ALIASES | REFERENCE_ALIASES).items():
        row = next(
            line for line in page.splitlines() if line.startswith(f"| `{field}` |") and "Other names" not in line
        )
        assert row
        for alias in aliases:
            assert f"`{alias}`" in page, alias
    for container in CONTAINERS:
        assert f"`{container}`" in page
