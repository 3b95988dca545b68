"""A small finished run, made from the documented file formats alone, for the code on the pages to read."""

import json
import random
from pathlib import Path

import pytest

import mira

SOURCES = ("pr_issue", "deepwiki")
SLOTS = ("Reasoning Depth", "Internal Consistency", "Lasting Relevance")
SETTINGS = """\
run: run
tokenizer: cl100k_base
sources:
  - {name: pr_issue, path: pr_issue.jsonl}
  - {name: deepwiki, path: deepwiki.jsonl}
teacher: {replies: replies.jsonl}
group: {given: {text_group_A: [pr_issue, deepwiki]}}
discover: {rubrics: {text_group_A: text_group_A_dim_anchors.jsonl}}
distill: {folds: 2}
score: {workers: 1}
reliability: {bootstrap: 100}
"""


def _record(source: str, i: int, rng: random.Random) -> tuple[dict[str, str], dict[str, object]]:
    """Return a record, and the teacher's reply on it: the more reasons in the text, the higher the scores."""
    good = rng.randint(0, 9)
    words = ["because", "therefore"] * good + ["foo", "bar", "baz"] * rng.randint(5, 9)
    rng.shuffle(words)
    lines = [f"[A{j}] {name}: {min(10, good + j / 4)}/10 — seen {good} times" for j, name in enumerate(SLOTS)]
    lines = [line.replace(f"[A{j}]", f"[A{j + 1}]") for j, line in enumerate(lines)]
    verdict = "keep" if good > 4 else "drop"
    closing = [f"overall: {10 * good}", f"training_recommendation: {verdict}", "domain_tag: test", "brief: A test."]
    id_ = f"{source}-{i}"
    reply = {"id": id_, "source": source, "replicate": 0, "reply": "\n".join([*lines, *closing])}
    return {"id": id_, "text": f"{source} {i} {' '.join(words)}"}, reply


def _write(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with mira.yaml and a finished run."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    folder.mkdir()
    rng = random.Random(0)
    replies = []
    for source in SOURCES:
        pairs = [_record(source, i, rng) for i in range(40)]
        _write(folder / f"{source}.jsonl", [record for record, _ in pairs])
        replies += [reply for _, reply in pairs]
        replies += [{**reply, "replicate": 1} for _, reply in pairs[:10]]
    _write(folder / "replies.jsonl", replies)
    anchors = [{"slot": f"A{j}", "name": name} for j, name in enumerate(SLOTS, 1)]
    _write(folder / "text_group_A_dim_anchors.jsonl", anchors)
    (folder / "mira.yaml").write_text(SETTINGS, encoding="utf-8")
    mira.run(folder / "mira.yaml")
    return folder
