"""A small group with labels: what a tuned student learns from in these tests."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mira.config.settings import Config, DistillSettings, SftSettings, SourceSettings
from mira.corpus import Part, Record
from mira.distillation.sft.examples import Tuning
from mira.family import FamilyName
from mira.rubric.judgement import Judgement, Recommendation, judgements_table
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.unscored import Unscored

NAMES = ("Depth", "Clarity", "Depth", "Safety")
SOURCES = ("docs", "notes")


def rubric() -> Rubric:
    anchors = [
        Anchor(
            slot=f"A{i}", name=name, cluster_size=50 - i, exemplar=Reference("r", 5, f"Because {i}."),
            references=(Reference("r0", 1, f"Bad {i}."), Reference("r1", 9, f"Good {i}.")),
        )
        for i, name in enumerate(NAMES, 1)
    ]  # fmt: skip
    return Rubric.build("text_group_A", anchors)


def records(n: int = 24) -> list[Record]:
    texts = [f"Record {i}. " + "good words. " * (i % 4 + 1) for i in range(n)]
    return [Record(f"id{i:03}", SOURCES[i % 2], FamilyName.TEXT, (Part("", text),)) for i, text in enumerate(texts)]


def judgement(record: Record, **changes: Any) -> Judgement:
    level = len(record.text) % 7 + 2.5
    values: dict[str, Any] = {
        "scores": tuple(min(10.0, level + i / 2) for i in range(len(NAMES))),
        "rationales": tuple(f"Why {record.id} slot {i}." for i in range(len(NAMES))),
        "overall": 10 * level,
        "recommendation": Recommendation.KEEP,
        "domain_tag": "tag",
        "brief": f"About {record.id}.",
    }
    return Judgement(record.id, record.source, **(values | changes))


def labels(judgements: Iterable[Judgement], held_out: Collection[str] = ()) -> pa.Table:
    table = judgements_table(list(judgements), len(NAMES))
    split = ["held_out" if id in held_out else "train" for id in table["id"].to_pylist()]
    tokens = pa.array([10] * len(table), pa.int32())
    table = table.append_column("n_tokens", tokens).append_column("split", pa.array(split, pa.string()))
    return table.sort_by([("source", "ascending"), ("id", "ascending"), ("replicate", "ascending")])


def lookup(found: Iterable[Record]) -> Callable[[str, Sequence[str]], list[Record]]:
    by_key = {(r.source, r.id): r for r in found}
    return lambda source, ids: [by_key[source, id] for id in ids if (source, id) in by_key]


def config(folder: Path, **sft: Any) -> Config:
    return Config(
        run=folder / "run",
        sources=[SourceSettings(name=name, path=str(folder / f"{name}.jsonl")) for name in SOURCES],
        distill=DistillSettings(student="sft", sft=SftSettings(**sft)),
    )


__all__ = ["NAMES", "SOURCES", "Unscored", "config", "judgement", "labels", "lookup", "records", "rubric"]


def tuning(config: Config) -> Tuning:
    return Tuning(config.distill.sft, config.discover, config.seed)
