"""Recorded replies behind the seam of every judge."""

from importlib.resources import files
from pathlib import Path

import orjson
import pytest

from mira.corpus import Part, Record
from mira.errors import InputError
from mira.family import FamilyName
from mira.judging.judge import JudgeTask
from mira.judging.recorded import RecordedJudge
from mira.rubric.rubric import Rubric
from mira.unscored import Unscored

DATA = Path(str(files("mira.demo_project") / "data"))
RUBRIC = Rubric.load(DATA / "text_group_A_dim_anchors.jsonl")
REPLY = "[A1] Reasoning Depth: 7/10 — ok\noverall: 5\ntraining_recommendation: keep"


def task(id, source="s", replicate=0):
    return JudgeTask(Record(id, source, FamilyName.TEXT, (Part("", "text"),)), replicate)


def write(path, *lines):
    path.write_bytes(b"\n".join(orjson.dumps(line) if isinstance(line, dict) else line for line in lines))
    return path


def line(id="a", source="s", reply=REPLY, **more):
    return {"id": id, "source": source, "reply": reply, **more}


def test_demo_recording():
    judge = RecordedJudge(DATA / "teacher_replies.jsonl", RUBRIC)
    assert judge.n_slots == 15
    assert judge.sources == ["project_docs", "release_notes"]
    ids = judge.ids("project_docs")
    assert len(ids) == 119 and sum(ids.values()) == 131 and list(ids) == sorted(ids)
    judged = list(judge.judge(task(id, "project_docs", r) for id, n in ids.items() for r in range(n)))
    assert len(judged) == 131
    assert all(not j.missing and j.judge == judge.identity for j in judged)
    assert {j.replicate for j in judged} == {0, 1}


def test_records_without_a_reply_are_not_recorded(tmp_path):
    judge = RecordedJudge(write(tmp_path / "r.jsonl", line()), RUBRIC)
    scored, other, source, replicate = judge.judge([task("a"), task("b"), task("a", "t"), task("a", "s", 1)])
    assert scored.scores[0] == 7 and scored.overall == 5 and scored.missing["A2"] is Unscored.MISSING_SLOT
    for judgement in (other, source, replicate):
        assert judgement.reason_unscored is Unscored.NOT_RECORDED
        assert judgement.scores == (None,) * 15
    assert (other.id, source.source, replicate.replicate) == ("b", "t", 1)


def test_groups_are_kept_apart(tmp_path):
    path = write(tmp_path / "r.jsonl", line(group="A"), line(group="B", reply="x"), line("b", group="text_group_A"))
    judge = RecordedJudge(path, RUBRIC)
    assert judge.ids("s") == {"a": 1, "b": 1}


def test_cut_replies_are_known(tmp_path):
    judge = RecordedJudge(write(tmp_path / "r.jsonl", line(finish_reason="length")), RUBRIC)
    [judgement] = judge.judge([task("a")])
    assert judgement.missing["A2"] is Unscored.TRUNCATED


def test_several_files_and_blank_lines(tmp_path):
    one = write(tmp_path / "1.jsonl", line(), b"", b"  ", line("b"), b"")
    two = write(tmp_path / "2.jsonl", line("c", reply="[A1] 3/10"), line())
    judge = RecordedJudge([one, str(two)], RUBRIC)
    assert judge.ids("s") == {"a": 1, "b": 1, "c": 1}
    assert [j.scores[0] for j in judge.judge([task("c"), task("b")])] == [3, 7]


def test_identity_follows_rubric_and_content(tmp_path):
    one = write(tmp_path / "1.jsonl", line())
    judge = RecordedJudge(one, RUBRIC)
    moved = RecordedJudge(write(tmp_path / "2.jsonl", line()), RUBRIC)
    other = RecordedJudge(write(tmp_path / "3.jsonl", line(reply="x")), RUBRIC)
    rubric = Rubric.load(DATA / "text_group_B_dim_anchors.jsonl")
    assert judge.identity == moved.identity
    assert len({judge.identity, other.identity, RecordedJudge(one, rubric).identity}) == 3


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"id": "a", "source": "s"}', "field 'reply' is missing"),
        (b'{"id": 5, "source": "s", "reply": ""}', "field 'id' is not a string"),
        (b'{"id": "a", "source": "s", "reply": null}', "field 'reply' is not a string"),
        (b'{"id": "a", "source": "s", "reply": "", "replicate": true}', "field 'replicate' is not a whole number"),
        (b'{"id": "a", "source": "s", "reply": "", "replicate": -1}', "field 'replicate' is negative"),
        (b'{"id": "a", "source": "s", "reply": "\xff"}', "not JSON"),
    ],
)
def test_bad_line_is_named(tmp_path, bad, says):
    path = write(tmp_path / "r.jsonl", line(), bad)
    with pytest.raises(InputError) as caught:
        RecordedJudge(path, RUBRIC)
    assert str(caught.value).startswith(f"{path}:2: {says}")


def test_two_different_replies_are_refused_with_both_lines(tmp_path):
    path = write(tmp_path / "r.jsonl", line(), line("b"), line(), line(reply="another"))
    with pytest.raises(InputError) as caught:
        RecordedJudge(path, RUBRIC)
    assert f"{path}:4: " in caught.value.message and f"{path}:1" in caught.value.message


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.jsonl: cannot read"):
        RecordedJudge(tmp_path / "nowhere.jsonl", RUBRIC)
