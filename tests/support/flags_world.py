"""A small corpus of plain texts, cut into files at will, and its flags."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from mira.config.settings import Config
from mira.corpus import build_index, shards
from mira.flags import dropped_rows, flag, flags_path
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder

Files = Mapping[str, Sequence[Mapping[str, str]]]
"""Source -> its files, each id -> text."""


class World:
    def __init__(self, folder: Path, files: Files, **settings: Any) -> None:
        self.folder, self.run = folder, RunFolder(folder / "run")
        for source, parts in files.items():
            self.put(source, parts)
        self.sources = list(files)
        self.settings = settings
        build_index(self.config(), self.run, Quiet())

    def put(self, source: str, parts: Sequence[Mapping[str, str]]) -> None:
        for at, texts in enumerate(parts):
            path = self.folder / "input" / source / f"part_{at:03d}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(orjson.dumps({"id": i, "text": t}) + b"\n" for i, t in texts.items()))

    def benchmark(self, name: str, *lines: object) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        return str(path)

    def config(self, **flags: Any) -> Config:
        sources = [{"name": s, "path": str(self.folder / "input" / s)} for s in self.sources]
        return Config.model_validate(
            {
                "run": self.run.path,
                "sources": sources,
                "score": {"workers": 1},
                "tokenizer": "cl100k_base",
                "flags": {**self.settings, **flags},
            }
        )

    def flag(self, **flags: Any) -> dict[str, Any]:
        return flag(self.config(**flags), self.run, Quiet())

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return "source/id" -> its flags."""
        found = {}
        for source, parts in shards(self.config().corpus).items():
            for shard in parts:
                for row in pq.read_table(flags_path(self.run, shard)).to_pylist():
                    found[f"{source}/{row['id']}"] = row
        return found

    def column(self, name: str) -> dict[str, Any]:
        """Return "source/id" -> what it is flagged with, of those that are."""
        return {key: row[name] for key, row in self.rows().items() if row[name] is not None}

    def dropped(self, **flags: Any) -> dict[str, str]:
        config = self.config(**flags)
        ids = {(k.split("/")[0], r["row"], r["id"]) for k, r in self.rows().items()}
        found: dict[str, str] = {}
        for source, parts in shards(config.corpus).items():
            for shard in parts:
                rows, reasons = dropped_rows(config.flags, self.run, shard)
                here = {r["row"]: r["id"] for r in pq.read_table(flags_path(self.run, shard)).to_pylist()}
                assert all((source, row, here[row]) in ids for row in rows.tolist())
                found |= {f"{source}/{here[r]}": w for r, w in zip(rows.tolist(), reasons.to_pylist(), strict=True)}
        return found
