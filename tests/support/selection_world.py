"""A small corpus with score sidecars and a mask, made from plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import Config
from mira.corpus import build_index, shards
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.selection.stage import select


@dataclass
class Item:
    """One record: its scores are float, None (missing) or NaN (a student's fault)."""

    id: str
    scores: Sequence[float | None]
    text: str = "one two three"
    reason_unscored: str | None = None
    overall: float | None = None


class World:
    """Sources of items, cut into shards at will."""

    def __init__(
        self, folder: Path, sources: Mapping[str, Sequence[Sequence[Item]]], groups: Mapping[str, Sequence[str]]
    ):
        self.folder, self.sources = folder, sources
        self.run = RunFolder(folder / "run")
        for source, parts in sources.items():
            for at, items in enumerate(parts):
                path = folder / "input" / source / f"part_{at:03d}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"".join(orjson.dumps({"id": i.id, "text": i.text}) + b"\n" for i in items))
        self.run.groups.parent.mkdir(parents=True, exist_ok=True)
        self.run.groups.write_bytes(
            orjson.dumps({"groups": [{"name": name, "sources": list(s)} for name, s in groups.items()]})
        )
        build_index(self.config(), self.run, Quiet())
        self.mask(dict.fromkeys(sources, ()))
        for source in sources:
            self.score(source)

    @property
    def n_slots(self) -> int:
        return max((len(i.scores) for parts in self.sources.values() for items in parts for i in items), default=1)

    def config(self, **select_settings: Any) -> Config:
        sources = [{"name": s, "path": str(self.folder / "input" / s / "*.jsonl")} for s in self.sources]
        seed = select_settings.pop("seed", 0)
        return Config.model_validate(
            {
                "run": self.run.path,
                "seed": seed,
                "sources": sources,
                "tokenizer": "cl100k_base",
                "select": select_settings,
            }
        )

    def mask(self, masked: Mapping[str, Sequence[str]]) -> None:
        slots = [f"A{i + 1}" for i in range(self.n_slots)]
        cells = [(source, slot, slot in masked.get(source, ())) for source in self.sources for slot in slots]
        names = ["source", "slot", "masked"]
        pq.write_table(pa.table([list(c) for c in zip(*cells, strict=True)], names=names), self.run.reliability)

    def score(self, source: str, change: Any = lambda table: table) -> None:
        items = {i.id: i for part in self.sources[source] for i in part}
        for shard in shards(self.config().corpus)[source]:
            index = pq.read_table(self.run.index(source) / f"{shard.name}.parquet")
            valid = index.filter(pa.compute.is_null(index["reason_rejected"]))
            duplicates = pq.read_table(self.run.index(source) / "duplicates.parquet")
            later = duplicates.filter(pa.compute.equal(duplicates["shard"], shard.name))["row"]
            valid = valid.filter(pa.compute.invert(pa.compute.is_in(valid["row"], value_set=later.combine_chunks())))
            found = [items[i] for i in valid["id"].to_pylist()]
            columns: dict[str, Any] = {name: valid[name] for name in ("row", "id", "n_tokens")}
            for at in range(self.n_slots):
                columns[f"A{at + 1}"] = pa.array([i.scores[at] for i in found], pa.float32())
            columns["overall"] = pa.array([i.overall for i in found], pa.float32())
            columns["reason_unscored"] = pa.array([i.reason_unscored for i in found], pa.string())
            path = self.run.scores(source) / f"{shard.name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(change(pa.table(columns)), path)

    def select(self, **settings: Any) -> dict[str, Any]:
        return select(self.config(**settings), self.run, Quiet())

    def rows(self, source: str) -> list[dict[str, Any]]:
        paths = sorted(self.run.selection(source).glob("*.parquet"))
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    def kept(self) -> set[tuple[str, str]]:
        return {(s, row["id"]) for s in self.sources for row in self.rows(s) if row["kept"]}

    def record(self, id: str) -> dict[str, Any]:
        return next(row for s in self.sources for row in self.rows(s) if row["id"] == id)


def words(n: int) -> str:
    """A text of exactly `n` cl100k tokens."""
    return " ".join(["a"] * n)


def items(source: str, n: int, n_slots: int = 4, seed: int = 0, tokens: int | None = None) -> list[Item]:
    rng = np.random.default_rng([seed, *source.encode()])
    return [
        Item(
            f"{source}-{k}",
            [round(float(x), 2) for x in rng.uniform(0, 10, n_slots)],
            words(tokens or int(rng.integers(5, 60))),
        )
        for k in range(n)
    ]
