"""Nothing that was paid for is asked again: every request is counted at the teacher."""

import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mira.cli.plan import print_plan
from mira.config.loading import load_config
from mira.errors import RunError
from mira.llm.cost import SpendingStop
from mira.pipeline.plan import plan
from mira.progress import Quiet
from mira.run_folder.files import hash_path, read_json
from support.paid_project import CALLS, FIRST, LABELS, SAMPLE, TWICE, CountingTeacher, PaidProject

Living = tuple[PaidProject, CountingTeacher]
GROUPS = {"text_group_A": ["sockets", "routers"], "text_group_B": ["pasta", "soup"], "qa_group_A": ["faq"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with CountingTeacher() as teacher:
        project = PaidProject(tmp_path_factory.mktemp("paid"), teacher.url)
        project.mira("run")
        assert teacher.take() == (dict.fromkeys(FIRST, SAMPLE), dict.fromkeys(FIRST, CALLS))
        yield project, teacher


@pytest.fixture
def paid(finished: Living, tmp_path: Path) -> Living:
    """A finished project, moved to another place."""
    project, teacher = finished
    moved = PaidProject.__new__(PaidProject)
    moved.folder = Path(shutil.copytree(project.folder, tmp_path / "moved to"))
    teacher.take()
    return moved, teacher


def planned(project: PaidProject, *overrides: str) -> tuple[int, int, str]:
    """Return the calls of discover and of label that are planned, and the lines that say which labels are new."""
    stages = plan(load_config(project.path, overrides), Quiet())
    print_plan(stages, Console(file=(said := StringIO()), width=180))
    calls = {stage.name: stage.calls for stage in stages}
    return calls["discover"], calls["label"], said.getvalue().partition("New labels:")[2]


def groups(project: PaidProject) -> dict[str, list[str]]:
    return {g["name"]: g["sources"] for g in read_json(project.run / "groups.json")["groups"]}


def students(project: PaidProject) -> dict[str, str]:
    return {group: hash_path(project.run / "students" / group) for group in GROUPS}


def test_moving_the_project_asks_nothing(paid: Living) -> None:
    project, teacher = paid
    assert groups(project) == GROUPS
    assert " running" not in project.mira("run")
    (project.run / "manifest.json").unlink()
    project.label()
    assert teacher.take() == ({}, {})


def test_freezing_asks_nothing_and_a_new_source_pays_for_itself_alone(paid: Living) -> None:
    project, teacher = paid
    said = project.mira("freeze")
    assert "text_group_B: pasta, soup; rubric rubrics/text_group_B_dim_anchors.jsonl" in said
    assert project.settings["group"] == {"new_sources": "nearest", "given": GROUPS, "sample": 8, "k": {"text": 2}}
    assert "# kitchen and network" in project.path.read_text()
    project.label()
    assert teacher.take() == ({}, {})
    project.add("bread")
    discover, label, said = planned(project)
    assert (discover, label) == (0, CALLS) and "at most" not in said
    assert f"bread: {CALLS} calls; new source, joins text_group_B: cosine 0." in said
    before = students(project)
    said = project.mira("run")
    assert teacher.take() == ({}, project.labelled("bread"))
    assert "bread joins text_group_B: cosine 0." in said and "next is text_group_A" in said
    assert groups(project) == {**GROUPS, "text_group_B": ["pasta", "soup", "bread"]}
    assert {group for group in GROUPS if f"{group}: the student is kept" in said} == {"text_group_A", "qa_group_A"}
    after = students(project)
    assert {group for group in GROUPS if before[group] != after[group]} == {"text_group_B"}
    project.mira("distill", "--force")
    assert students(project) == after  # kept or trained, with vectors kept or new: the same bytes
    project.remove("bread")
    project.label()
    project.add("bread")
    project.label()
    assert teacher.take() == ({}, {})


def test_freezing_after_a_source_was_added(paid: Living) -> None:
    project, teacher = paid
    project.add("bread")
    assert "bread: in no group yet; it joins the nearest one" in project.mira("freeze")
    project.label()
    assert teacher.take() == ({}, project.labelled("bread"))
    before = project.path.read_text()
    project.mira("freeze")
    assert project.settings["group"]["given"]["text_group_B"] == ["pasta", "soup", "bread"]
    text = project.path.read_text()
    assert text != before and "says all of this already" in project.mira("freeze") and project.path.read_text() == text
    project.label()
    assert teacher.take() == ({}, {})


def test_an_unfrozen_group_is_discovered_again_but_only_the_new_source_is_judged_freely(paid: Living) -> None:
    project, teacher = paid
    project.add("bread")
    discover, label, said = planned(project)
    assert (discover, label) == (SAMPLE, 3 * CALLS)
    assert f"bread: at most {CALLS} calls; new source in text_group_B" in said
    assert f"pasta: at most {CALLS} calls; the rubric of text_group_B may be discovered anew" in said
    assert "sockets" not in said and "mira freeze CONFIG" in said
    project.label()
    free, labels = teacher.take()
    assert free == {"bread": SAMPLE}
    assert labels == project.labelled("pasta", "soup", "bread")
    project.remove("bread")
    project.label()
    assert teacher.take() == ({}, {})


def test_a_larger_label_budget_pays_for_the_difference(paid: Living) -> None:
    project, teacher = paid
    larger = f"label.sample={LABELS + 10}"
    more = 10 + round((LABELS + 10) * 0.1) - TWICE
    discover, label, said = planned(project, larger)
    assert (discover, label) == (0, len(FIRST) * more) and f"faq: {more} calls; label.sample changed" in said
    project.label(larger)
    assert teacher.take() == ({}, dict.fromkeys(FIRST, more))
    project.label()
    assert teacher.take() == ({}, {})


def test_changing_one_rubric_pays_for_its_group(paid: Living) -> None:
    project, teacher = paid
    project.mira("freeze")
    rubric = project.folder / "rubrics" / "text_group_A_dim_anchors.jsonl"
    text = rubric.read_text()
    rubric.write_text(text.replace('"name":"', '"name":"Clear ', 1))
    discover, label, said = planned(project)
    assert (discover, label) == (0, 2 * CALLS) and f"routers: {CALLS} calls; text_group_A has another rubric" in said
    project.label()
    assert teacher.take() == ({}, project.labelled("sockets", "routers"))
    rubric.write_text(text)
    project.label()
    assert teacher.take() == ({}, {})


def test_a_rubric_that_was_edited_in_the_run_is_kept(paid: Living) -> None:
    project, teacher = paid
    rubric = project.run / "rubrics" / "text_group_A_dim_anchors.jsonl"
    edited = rubric.read_text().replace('"name":"', '"name":"Clear ', 1)
    rubric.write_text(edited)
    for verb in ("run", "discover", "plan"):
        said = project.mira(verb, ok=False)
        assert "edited since mira wrote it" in said and "mira freeze CONFIG" in said
        assert rubric.read_text() == edited
    assert "Wrote rubrics/text_group_A_dim_anchors.jsonl" in project.mira("freeze")
    _, label, said = planned(project)
    assert label == 2 * CALLS and f"routers: {CALLS} calls; text_group_A has another rubric" in said
    project.label()
    assert rubric.read_text() == edited
    assert teacher.take() == ({}, project.labelled("sockets", "routers"))


def test_an_edit_that_is_discarded_costs_nothing(paid: Living) -> None:
    project, teacher = paid
    rubric = project.run / "rubrics" / "text_group_A_dim_anchors.jsonl"
    text = rubric.read_bytes()
    rubric.write_bytes(text + b"\n")
    assert "edited since" in project.mira("run", ok=False)
    rubric.unlink()
    project.label()
    assert rubric.read_bytes() == text and teacher.take() == ({}, {})


def test_an_edit_after_discovery_was_stopped_is_kept(paid: Living) -> None:
    project, _ = paid
    with pytest.raises(SpendingStop):
        project.label("run=other", "teacher.max_requests=20")  # the first group's 12, and some of the second's
    rubric = project.folder / "other" / "rubrics" / "text_group_A_dim_anchors.jsonl"
    edited = rubric.read_text().replace('"name":"', '"name":"Clear ', 1)
    rubric.write_text(edited)
    with pytest.raises(RunError, match=r"text_group_A_dim_anchors\.jsonl: edited since mira wrote it"):
        project.label("run=other")
    assert rubric.read_text() == edited


def test_edited_groups_are_kept(paid: Living) -> None:
    project, teacher = paid
    path = project.run / "groups.json"
    path.write_text(path.read_text().replace('"text_group_B"', '"text_group_kitchen"'))
    said = project.mira("run", ok=False)
    assert "groups.json: edited since mira wrote it" in said and "mira freeze CONFIG" in said
    assert "text_group_kitchen has no rubric yet" in project.mira("freeze", ok=False)
    assert teacher.take() == ({}, {})
