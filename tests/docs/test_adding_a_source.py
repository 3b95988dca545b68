"""The road of docs/how-to/add-a-source.md, run from start to end against a teacher that counts."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from docs.pages import ROOT, blocks
from docs.test_snippets import commands_in
from mira.cli.app import app
from support.paid_project import CALLS, FIRST, SAMPLE, CountingTeacher, PaidProject

PAGE = ROOT / "docs" / "how-to" / "add-a-source.md"


def test_the_steps_of_the_page_add_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, entry, check, run = list(blocks(PAGE))[:4]
    with CountingTeacher() as teacher:
        project = PaidProject(tmp_path, teacher.url)
        project.label()
        assert teacher.take() == (dict.fromkeys(FIRST, SAMPLE), dict.fromkeys(FIRST, CALLS))
        monkeypatch.chdir(project.folder)
        said = ""
        for block in (first, entry, check, run):
            if block.language == "yaml":
                (source,) = yaml.safe_load(block.text)["sources"]
                assert {"name", "path", "family", "fields"} <= source.keys()
                project.add("bread")
            for words in commands_in(block.text):
                result = CliRunner().invoke(app, words, catch_exceptions=False)
                assert result.exit_code == 0, result.output
                said += result.output
        assert f"bread: {CALLS} calls; new source, joins text_group_B" in said
        assert teacher.take() == ({}, {"bread": CALLS})
    written = next(yaml.safe_load(b.text) for b in blocks(PAGE) if "new_sources" in b.text)
    assert written["group"].keys() <= project.settings["group"].keys()
    assert written["discover"]["rubrics"].items() <= project.settings["discover"]["rubrics"].items()
