"""A run folder whose good records are prose and whose bad ones are advertisements, with held-out verdicts for some."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mira.rubric.judgement import Judgement, Recommendation, judgements_table
from mira.run_folder.paths import RunFolder
from support.selection_world import Item, World

SOURCES = ("docs", "tests")
GOOD = (
    "the",
    "parser",
    "reads",
    "every",
    "line",
    "and",
    "explains",
    "why",
    "a",
    "record",
    "is",
    "kept",
    "or",
    "dropped",
)
BAD = ("BUY", "NOW", "50%", "off", "click", "HERE", "!!!", "best", "price", "ever", "free", "only", "today", "2 for 1")
HELD_OUT = 12


def item(source: str, k: int) -> Item:
    rng = np.random.default_rng([k, *source.encode()])
    good = k % 2 == 0
    text = " ".join(rng.choice(GOOD if good else BAD, 90 if good else 50))
    score = 8.0 if good else 2.0
    return Item(f"{source}-{k:03d}", [score + rng.random() for _ in range(4)], text)


def verdict(source: str, k: int, split: str) -> tuple[Judgement, str]:
    good = k % 2 == 0
    recommendation = Recommendation.KEEP if good else Recommendation.DROP
    overall = (60.0 if good else 20.0) + k
    return Judgement(f"{source}-{k:03d}", source, (5.0,) * 4, overall=overall, recommendation=recommendation), split


def proxy_world(folder: Path, n: int = 120) -> World:
    """The first records of each source are labelled: 12 held out, 12 for training."""
    sources = {s: [[item(s, k) for k in range(n)]] for s in SOURCES}
    world = World(folder, sources, {"text_group_A": SOURCES})
    group = {"name": "text_group_A", "family": "text", "group": "A", "sources": list(SOURCES), "cosines": []}
    world.run.groups.write_text(json.dumps({"groups": [group], "k": {}}))
    write_labels(
        world.run, [verdict(s, k, "held_out" if k < HELD_OUT else "train") for s in SOURCES for k in range(24)]
    )
    return world


def write_labels(run: RunFolder, verdicts: Iterable[tuple[Judgement, str]]) -> None:
    verdicts = list(verdicts)
    table = judgements_table([j for j, _ in verdicts], 4)
    table = table.append_column("n_tokens", pa.array([1] * len(table), pa.int32()))
    path = run.labels("text_group_A")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.append_column("split", pa.array([split for _, split in verdicts])), path)
