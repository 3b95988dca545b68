"""The rule of docs/how-to/scope-and-budget.md on duplicates: by id within a source, then by text across sources."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.settings import FlagSettings
from mira.flags import flag
from mira.hashing import hash_ids
from mira.progress import Quiet
from mira.selection.stage import select
from support.corpus_project import Project
from support.selection_world import Item, World


def _id(source: str, text: str) -> str:
    return hashlib.sha256(f"{source}\0{text}".encode()).hexdigest()[:16]


def test_records_without_ids_have_one_id_a_content_and_the_first_counts(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.lines("b.jsonl", {"text": "one"}, {"id": "", "text": "two"}, {"id": None, "text": "one "})
    project.lines("a.jsonl", {"text": "two", "extra": 1}, {"text": "one"}, {"text": "one", "extra": 2})
    config = project.config(project.source("*.jsonl"), project.source("a.jsonl", name="t"))
    counts = project.index(config)["sources"]
    assert counts["s"]["rejected"] == {"duplicate_id": 3}  # type: ignore[index]
    assert counts["t"]["rejected"] == {"duplicate_id": 1}  # type: ignore[index]
    assert [(r.source, r.id, r.row) for r in project.records(config)] == [
        ("s", _id("s", "two"), 0), ("s", _id("s", "one"), 1), ("s", _id("s", "one "), 2),
        ("t", _id("t", "two"), 0), ("t", _id("t", "one"), 1),
    ]  # fmt: skip


def test_with_duplicates_kept_every_copy_competes(tmp_path: Path) -> None:
    items = [[Item(f"{k}{i}", [float(k)] * 4, f"text {i} of a few words") for i in range(5)] for k in range(2)]
    world = World(tmp_path, {"a": [items[0]], "b": [items[1]]}, {"g": ["a", "b"]})
    config = world.config(budget="100%")
    flag(config, world.run, Quiet())
    select(config, world.run, Quiet())
    assert len(world.kept()) == 10


@pytest.mark.parametrize("seed", range(4))
def test_the_copy_that_the_rule_names_stands(tmp_path: Path, seed: int) -> None:
    """A plain reading of the rule: copies with scores and without, and a source that may keep nothing."""
    rng = np.random.default_rng(seed)
    sources: dict[str, list[Item]] = {"a": [], "b": [], "c": []}
    for text in range(12):
        for copy in range(int(rng.integers(1, 5))):
            source = "abc"[int(rng.integers(3))]
            score = None if rng.random() < 0.25 else float(rng.integers(1, 4))
            spaces = " " * int(rng.integers(1, 3))
            sources[source].append(Item(f"{text}-{copy}", [score] * 4, f"text{spaces}number {text} of words"))
    world = World(tmp_path, {s: [items] for s, items in sources.items()}, {"g": list(sources)})
    config = world.config(budget="10%", scope="global", source_max={"c": 0})
    config = config.model_copy(update={"flags": FlagSettings(duplicates="drop")})
    flag(config, world.run, Quiet())
    select(config, world.run, Quiet())
    named = {
        f"{source}/{row['id']}": row["duplicate_of"] is None
        for source in sources
        for path in (world.run.path / "flags" / source).glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    rows = {f"{s}/{row['id']}": row for s in sources for row in world.rows(s)}
    for text in range(12):
        copies = [(s, item) for s, items in sources.items() for item in items if item.id.startswith(f"{text}-")]
        stands = _stands(copies, named)
        for source, item in copies:
            key = f"{source}/{item.id}"
            dropped = rows[key]["reason"] == "flagged:duplicate"
            assert dropped == (key != stands), (key, rows[key]["reason"], stands)


def _stands(copies: Sequence[tuple[str, Item]], named: dict[str, bool]) -> str:
    def order(copy: tuple[str, Item]) -> tuple[bool, float, bool, int]:
        source, item = copy
        score = item.scores[0]
        may_be_kept = score is not None and source != "c"
        (tie,) = hash_ids(pa.array([item.id]), 0, source)
        return not may_be_kept, 1.0 if score is None else -score, not named[f"{source}/{item.id}"], int(tie)

    source, item = min(copies, key=order)
    return f"{source}/{item.id}"
