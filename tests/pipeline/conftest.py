"""A small real project: the labelled records of the demo's two smallest sources a group, and some more."""

import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from mira.config.loading import load_config
from mira.demo_project.corpus import build_corpus
from mira.demo_project.download import fetch_distributions
from mira.errors import MiraError
from mira.pipeline.runner import run_stages
from mira.progress import Quiet
from support.encoder_case import RUBRIC
from support.notes import Notes
from support.once import made_once
from support.served_case import Server, serving
from support.tiny_world import TinyWorld

SETTINGS = """\
run: run
shard_bytes: 100000
sources:
  - {name: release_notes, path: release_notes.jsonl}
  - {name: api_reference, path: api_reference.jsonl}
  - {name: examples, path: examples.jsonl}
teacher:
  replies: teacher_replies.jsonl
embedding: {windows: 1, window_tokens: 16}  # most of a run's time goes into the embedder
group: {sample: 10, given: {text_group_A: [release_notes], text_group_B: [api_reference, examples]}}
discover:
  slots: 15
  rubrics:
    text_group_A: text_group_A_dim_anchors.jsonl
    text_group_B: text_group_B_dim_anchors.jsonl
distill: {folds: 2}
score: {workers: 1}
reliability: {bootstrap: 200}
"""
SOURCES = ("release_notes", "api_reference", "examples")
DATA = Path(str(resources.files("mira.demo_project") / "data"))


@pytest.fixture(scope="session")
def demo_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "demo", _build) / "corpus.jsonl"


@pytest.fixture(scope="session")
def finished(demo_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run once; what that said is in said.txt."""

    def make(folder: Path) -> None:
        _fill(folder, demo_corpus)
        notes = Notes()
        run_stages(load_config(folder / "mira.yaml"), log=notes)
        (folder / "said.txt").write_text("\n".join(notes.lines))

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def project(demo_corpus: Path, tmp_path: Path) -> Path:
    """A folder with mira.yaml, three sources of about 120 records each, and the teacher's recorded replies."""
    _fill(tmp_path, demo_corpus)
    return tmp_path


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, in another place: everything in it is up to date."""
    return Path(shutil.copytree(finished, tmp_path / "moved"))


@pytest.fixture
def server() -> Iterator[Server]:
    """A served student that scores every slot of the tiny world's rubric by the length of the question."""
    with serving(lambda user: len(user) % 11, RUBRIC) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path) -> TinyWorld:
    return TinyWorld(tmp_path)


def _build(folder: Path) -> None:
    try:
        distributions = fetch_distributions(Quiet())
    except MiraError as error:
        if "could not download" in error.message:
            pytest.skip(f"no package index: {error.message}")
        raise
    build_corpus(distributions, folder / "corpus.jsonl", Quiet())


def _fill(folder: Path, demo_corpus: Path) -> None:
    judged = {json.loads(line)["id"] for line in (DATA / "teacher_replies.jsonl").read_text().splitlines()}
    lines: dict[str, list[str]] = {source: [] for source in SOURCES}
    for line in demo_corpus.read_text().splitlines():
        record = json.loads(line)
        if record["source"] in SOURCES:
            lines[record["source"]].append(line)
    for source, found in lines.items():
        found.sort(key=lambda line: json.loads(line)["id"] not in judged)
        (folder / f"{source}.jsonl").write_text("\n".join(found[:120]) + "\n")
    for path in DATA.glob("*.jsonl"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "mira.yaml").write_text(SETTINGS)
