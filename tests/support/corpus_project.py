import bz2
import gzip
import lzma
from pathlib import Path

import orjson
import zstandard

from mira.config.settings import Config
from mira.corpus import Record, build_index, read, shards
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder


class Project:
    """A folder of input files and a run over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = RunFolder(folder / "run")

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = {
            ".gz": lambda: gzip.compress(data, mtime=0),
            ".zst": lambda: zstandard.compress(data),
            ".bz2": lambda: bz2.compress(data),
            ".xz": lambda: lzma.compress(data),
        }
        path.write_bytes(packed.get(path.suffix, lambda: data)())
        return path

    def lines(self, name: str, *values: object) -> Path:
        return self.put(name, b"".join(orjson.dumps(v) + b"\n" for v in values))

    def config(self, *sources: dict[str, object], **settings: object) -> Config:
        return Config.model_validate({"run": self.run.path, "sources": list(sources), **settings})

    def source(self, path: object = "in.jsonl", **settings: object) -> dict[str, object]:
        full = [str(self.folder / p) for p in path] if isinstance(path, list) else str(self.folder / str(path))
        return {"name": "s", "path": full, **settings}

    def index(self, config: Config) -> dict[str, object]:
        return build_index(config, self.run, Quiet())

    def records(self, config: Config) -> list[Record]:
        return [
            r
            for source in shards(config.corpus).values()
            for shard in source
            for r in read(config.corpus, self.run, shard)
        ]
