"""Real text to learn from: the rationales of the packaged teacher replies, and what can be said of them."""

import re
from importlib import resources

import numpy as np
import orjson
import pyarrow as pa

from mira.corpus.record import Part, Record
from mira.family import FamilyName
from mira.rubric.judgement import Judgement, judgements_table
from mira.rubric.rubric import Anchor, Reference, Rubric

N_SLOTS = 3
RUBRIC = Rubric(
    "text_group_T",
    tuple(Anchor(f"A{i}", f"Name {i}", 10, Reference("r", 5.0, "because")) for i in range(1, N_SLOTS + 1)),
)


def record(id: str, source: str, text: str) -> Record:
    return Record(id, source, FamilyName.TEXT, (Part("", text),))


def corpus(n: int) -> tuple[list[Record], np.ndarray]:
    """Rationales without their scores; labels: the overall score, the length, and a noise that nothing tells."""
    lines = resources.files("mira.demo_project").joinpath("data/teacher_replies.jsonl").read_bytes().splitlines()
    replies = [r for r in map(orjson.loads, lines) if r["replicate"] == 0][:: max(1, 500 // n)][:n]
    records, scores = [], []
    noise = np.random.default_rng(0).integers(0, 11, len(replies))
    for i, reply in enumerate(replies):
        rationales = re.findall(r"/10 — (.*)", reply["reply"])
        text = "\n".join(rationales[: 4 + i % 12])
        (overall,) = map(float, re.findall(r"^overall: ([\d.]+)", reply["reply"], re.MULTILINE))
        records.append(record(reply["id"], f"source_{reply['group']}", text))
        scores.append([round(overall / 5) / 2, 4 + i % 12 / 2, noise[i], overall])
    order = sorted(range(len(records)), key=lambda i: (records[i].source, records[i].id))
    return [records[i] for i in order], np.array([scores[i] for i in order], dtype=float)


def label_table(records: list[Record], scores: np.ndarray, replicate: int = 0) -> pa.Table:
    """Labels of all records; every fifth is held out. NaN is a missing score."""

    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    judgements = [
        Judgement(r.id, r.source, tuple(known(v) for v in row[:-1]), overall=known(row[-1]), replicate=replicate)
        for r, row in zip(records, scores, strict=True)
    ]
    table = judgements_table(judgements, scores.shape[1] - 1)
    splits = ["held_out" if i % 5 == 0 else "train" for i in range(len(records))]
    tokens = pa.array([len(r.text) // 4 for r in records], pa.int32())
    return table.append_column("n_tokens", tokens).append_column("split", pa.array(splits))
