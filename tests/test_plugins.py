"""Extension points: what an installed package adds is found by name, checked and used."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import mira
from mira import plugins
from mira.errors import ConfigError
from mira.selection.methods.method import find_method

POINTS = {
    "mira.judges": "lengths = my_judges:open_judge\nbroken = my_judges:nothing",
    "mira.embedders": "tiny = my_judges:TinyEmbedder",
    "mira.methods": "old = my_judges:OLD",
}
MODULE = """
import mira
import numpy as np
from mira.judging.judge import Judge
from mira.rubric.judgement import Judgement


class Lengths(Judge):
    def __init__(self, n_slots):
        self.identity, self.n_slots = "lengths 1", n_slots

    def judge(self, tasks):
        for record, replicate in tasks:
            score = min(10.0, len(record.parts[0].text) / 20)
            yield Judgement(record.id, record.source, (score,) * self.n_slots, replicate=replicate, judge=self.identity)


OLD = mira.Method(name="old", load=lambda config, run, log: None)


def open_judge(settings, rubric, prompt, journal):
    return Lengths(len(rubric.anchors))


class TinyEmbedder:
    identity, dim = "tiny 1", 2

    def __init__(self, settings, threads):
        pass

    def embed(self, texts):
        rows = np.array([[len(text) + 1.0, text.count("e") + 1.0] for text in texts], np.float32).reshape(-1, 2)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
"""
SETTINGS = """\
run: run
tokenizer: cl100k_base
sources: [{name: notes, path: notes.jsonl}]
teacher: {judge: lengths}
embedding: {model: tiny}
group: {given: {text_group_A: [notes]}}
discover: {rubrics: {text_group_A: text_group_A_dim_anchors.jsonl}}
"""


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that adds judges and an embedder, and a project beside it."""
    info = tmp_path / "site/my_judges-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-judges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(f"[{kind}]\n{lines}\n" for kind, lines in POINTS.items()))
    (tmp_path / "site/my_judges.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins.forget()
    yield tmp_path
    plugins.forget()


def test_a_packages_judge_labels_records(package: Path) -> None:
    write_lines(package / "notes.jsonl", [{"id": f"n{i}", "text": "word " * (i + 1)} for i in range(30)])
    write_lines(package / "text_group_A_dim_anchors.jsonl", [{"slot": f"A{i}", "name": f"D{i}"} for i in (1, 2)])
    (package / "mira.yaml").write_text(SETTINGS)
    run = mira.run(package / "mira.yaml", "index", "group", "discover", "label")
    labels = {row["id"]: row["A1"] for row in run.labels.to_pylist()}
    assert len(labels) == 30
    assert labels["n3"] == 1.0
    assert set(run.labels["judge"].to_pylist()) == {"lengths 1"}


def test_names_are_those_built_in_and_those_of_packages(package: Path) -> None:
    assert plugins.names(plugins.JUDGES) == ("built-in", "lengths", "broken")
    assert "tiny" in plugins.names(plugins.EMBEDDERS)


def test_what_cannot_be_loaded_is_named(package: Path) -> None:
    with pytest.raises(ConfigError, match="'broken' cannot be loaded"):
        plugins.load(plugins.JUDGES, "broken")
    with pytest.raises(ConfigError, match="'nobody' is not one of"):
        plugins.load(plugins.JUDGES, "nobody")


def test_a_method_for_another_version_of_mira_is_refused(package: Path) -> None:
    with pytest.raises(ConfigError, match="old was written for another version of mira: its `load` does not take 1"):
        find_method("old")


def test_an_unknown_judge_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "mira.yaml"
    path.write_text("run: run\nsources: [{name: notes, path: notes.jsonl}]\nteacher: {judge: nobody}\n")
    with pytest.raises(ConfigError, match="judge"):
        mira.load_config(path)
