"""Free-form judging: its prompt, its parser, and recorded judgments."""

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.corpus import Part, Record
from mira.errors import InputError
from mira.family import FamilyName
from mira.judging.free import build_free_prompt, parse_free_reply, read_free_judgments
from mira.tokens import tokenizer
from mira.unscored import Unscored

DATA = Path(str(files("mira.demo_project") / "data"))


def values(text, **options):
    return [(p.dimension, p.score, p.reason) for p in parse_free_reply(text, "r", "s", **options).points]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("[1] Clarity: 8/10 — Well said.", ("Clarity", 8, "Well said.")),
        ("**[1] Clarity:** 8.5 / 10 - Well said.", ("Clarity", 8.5, "Well said.")),
        ("1. **Clarity** — 8/10 — Well said.", ("Clarity", 8, "Well said.")),
        ("- [A1] Clarity (8/10): Well said.", ("Clarity", 8, "Well said.")),
        ("[1] Use of C++: 0/10: Has 3/10 of it.", ("Use of C++", 0, "Has 3/10 of it.")),
        ("[1] Tests: 2/10 — Few,\nand weak.", ("Tests", 2, "Few, and weak.")),
        ("[1] UTF-8 Hygiene: 4/10 — x", ("UTF-8 Hygiene", 4, "x")),
        ("【1】Ｃlarity：８／１０ — 好", ("Ｃlarity", 8, "好")),
    ],
)
def test_line(line, value):
    assert values(f"Here:\n{line}\n[2] Depth: 3/10 — Shallow.") == [value, ("Depth", 3, "Shallow.")]


def test_unreadable_lines_are_counted_not_guessed():
    reply = parse_free_reply("[1] A: 8/10 — x\n[2] B: good\n[3] C: 11/10 — y\n[4] 7/10\n[5] D: 7-8/10", "r", "s")
    assert [p.dimension for p in reply.points] == ["A"]
    assert reply.notes == ("skipped:4",)


def test_points_carry_their_record():
    [point] = parse_free_reply("[1] A: 8/10 — x", "id7", "src").points
    assert (point.record, point.source) == ("id7", "src")


def test_json_is_read_too():
    points = '{"dimension": "A  b", "score": 8, "reason": "x"}, {"dimension": "B", "score": "9"}'
    text = f'```json\n{{"points": [{points}]}}\n```'
    reply = parse_free_reply(text, "r", "s")
    assert [(p.dimension, p.score) for p in reply.points] == [("A b", 8)]
    assert reply.notes == ("skipped:1",)


def test_cut_and_empty_replies():
    assert values("[1] A: 8/10 — x\n[2] B: 7/10 — half a rea", truncated=True) == [("A", 8, "x")]
    assert parse_free_reply("", "r", "s").reason_unscored is Unscored.UNPARSABLE
    assert parse_free_reply("[1] A", "r", "s", truncated=True).reason_unscored is Unscored.TRUNCATED
    assert values("<think>[1] Draft: 1/10 — no</think>\n[1] A: 8/10 — x") == [("A", 8, "x")]


BITS = st.lists(st.sampled_from(list('[]{}":,1A8/— \n\ud800<')), max_size=60).map("".join)


@settings(max_examples=300)
@given(st.one_of(st.text(), BITS), st.booleans())
def test_any_text(text, truncated):
    reply = parse_free_reply(text, "r", "s", truncated=truncated)
    assert (reply.reason_unscored is None) == bool(reply.points)
    assert all(0 <= p.score <= 10 and p.dimension for p in reply.points)


def test_prompt():
    prompt = build_free_prompt(FamilyName.QA, points=7, corpus="gold")
    assert "as gold." in prompt.system and "7 quality dimensions" in prompt.system
    record = Record("r", "s", FamilyName.QA, (Part("Question", "why? " * 9000), Part("Answer", "so.")))
    tokens = tokenizer("qwen3")
    user = prompt.user(record, max_tokens=2000, tokenizer=tokens)
    assert sum(tokens.count([prompt.system, user.text])) <= 2000
    assert user.notes[0].startswith("cut:") and "exactly 7 lines" in user.text
    assert prompt.user(record, max_tokens=100, tokenizer=tokens) is None
    assert prompt.hash != build_free_prompt(FamilyName.QA, points=8, corpus="gold").hash
    assert values("\n".join(f"[{i}] <dimension>: <score>/10 — <reason>" for i in range(7))) == []


def test_demo_judgments():
    points = read_free_judgments(DATA / "free_judgments.jsonl")
    assert len(points) == 1500
    assert len({(p.source, p.record) for p in points}) == 100
    assert len({p.source for p in points}) == 5
    first = points[0]
    assert (first.record, first.dimension, first.score) == ("0492b53892b62fa2", "Concurrency Design Insight", 9.5)
    assert first.reason.startswith("Explains why a shared queue")


GOOD = '{"id": "a", "source": "s", "points": [{"dimension": "D", "score": 5, "reason": "r"}]}'


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "not JSON"),
        ("3", "not a JSON object"),
        ('{"id": "b", "source": "s"}', "field 'points' is missing or not a list"),
        ('{"id": 1, "source": "s", "points": []}', "field 'id' is missing or not a string"),
        (GOOD.replace('"a"', '"b"').replace("5", "11"), "points[0] has no number from 0 to 10 as 'score'"),
        (GOOD.replace('"a"', '"b"').replace("5", "true"), "points[0] has no number from 0 to 10 as 'score'"),
        (GOOD.replace('"a"', '"b"').replace('"D"', '" "'), "points[0] has no text as 'dimension'"),
        (GOOD.replace('"a"', '"b"').replace('"r"', "null"), "points[0] has no text as 'reason'"),
        (GOOD, "record 'a' of source 's' is already judged at"),
    ],
)
def test_bad_line_is_named(tmp_path, bad, says):
    path = tmp_path / "free.jsonl"
    path.write_text(f"{GOOD}\n\n{bad}\n")
    with pytest.raises(InputError) as caught:
        read_free_judgments([path])
    assert str(caught.value).startswith(f"{path}:3: {says}")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_free_judgments(tmp_path / "nowhere.jsonl")
