import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from mira.errors import InputError
from mira.reviewing.journal import HumanJudgement, add, check_reviewer, has_judgements, read_all
from mira.run_folder.paths import RunFolder


def said(id: str, verdict: str | None = "keep", reviewer: str = "ann", **more) -> HumanJudgement:
    return HumanJudgement("ant", id, reviewer, verdict, **more)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_the_last_line_counts_and_earlier_ones_stay(run: RunFolder) -> None:
    add(run, [said("1"), said("2", "drop", scores={"A1": 7.0}, note="why")])
    add(run, [said("1", "drop"), said("2", "keep", "bob")])
    found = read_all(run)
    assert {key[1]: one.verdict for key, one in found.latest("ann").items()} == {"2": "drop", "1": "drop"}
    assert len(found.history["ann"]) == 3
    assert found.latest("ann")["ant", "2"].scores == {"A1": 7.0}
    assert found.latest("bob")["ant", "2"].verdict == "keep"
    assert all(one.at.endswith("Z") for one in found.history["ann"])


def test_a_judgement_that_was_taken_back_is_gone(run: RunFolder) -> None:
    add(run, [said("1"), said("2")])
    add(run, [said("1", None)])
    assert [key[1] for key in read_all(run).latest("ann")] == ["2"]


def test_a_torn_line_costs_nothing_but_itself(run: RunFolder) -> None:
    add(run, [said("1"), said("2")])
    path = run.human / "ann.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # the process was killed while it wrote
    add(run, [said("3")])
    found = read_all(run)
    assert [key[1] for key in found.latest("ann")] == ["1", "3"]
    assert found.damaged == ("ann.jsonl:2",)


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"[1]", b'{"source":"a"}', b'{"source":"a","id":"b","reviewer":"c","verdict":"perhaps"}',
     b'{"source":"a","id":"b","reviewer":"c","verdict":"keep","scores":{"A1":11}}',
     b'{"source":"a","id":7,"reviewer":"c","verdict":"keep"}'],
)  # fmt: skip
def test_lines_of_others_are_named_and_do_not_count(run: RunFolder, line: bytes) -> None:
    add(run, [said("1")])
    with (run.human / "ann.jsonl").open("ab") as file:
        file.write(line + b"\n")
    found = read_all(run)
    assert found.damaged == ("ann.jsonl:2",)
    assert len(found.latest("ann")) == 1


@pytest.mark.parametrize("name", ["ann", "Ann B. 2", "../../etc/passwd", ".hidden", "李雷", "a/b", "%41", "con"])
def test_any_name_has_a_file_of_its_own(run: RunFolder, name: str) -> None:
    add(run, [said("1", reviewer=name), said("1", reviewer="other")])
    assert set(read_all(run).history) == {name, "other"}
    assert len(list(run.human.iterdir())) == 2
    assert all(path.parent == run.human for path in run.human.rglob("*"))


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\nb", "a\u202eb", "\ud800"])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_reviewer(name)


def test_one_spelling_of_a_letter_is_one_reviewer(run: RunFolder) -> None:
    assert check_reviewer(" Zoe\u0308 ") == check_reviewer("Zo\u00eb")


def test_judgements_are_there_once_there_are_some(run: RunFolder) -> None:
    assert not has_judgements(run)
    add(run, [])
    assert not has_judgements(run)
    add(run, [said("1")])
    assert has_judgements(run)


WRITER = """
import sys
from pathlib import Path
from mira.reviewing.journal import HumanJudgement, add
from mira.run_folder.paths import RunFolder
run, me = RunFolder(Path(sys.argv[1])), sys.argv[2]
for i in range(40):
    add(run, [HumanJudgement("ant", f"{me}-{i}", "ann", "keep", note="x" * 3000)])
"""


def test_processes_that_write_at_once_lose_nothing(run: RunFolder) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(run.path), str(n)], env=os.environ) for n in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    found = read_all(run)
    assert not found.damaged
    assert len(found.latest("ann")) == 120
    lines = (run.human / "ann.jsonl").read_bytes().splitlines()
    assert all(orjson.loads(line)["verdict"] == "keep" for line in lines)
