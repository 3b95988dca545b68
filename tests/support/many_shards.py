"""A small project of many shards, and what its run leaves to others."""

import json
from pathlib import Path

from mira.run_folder.files import hash_file
from support.tiny_world import TinyWorld

OWN = {".lock", "manifest.json", "report.html", "plan.json"}  # they hold times, or are of workers
LEFT = ("values", "sums", "workers", "leases", "journal", "ranks", "written", ".cache")


def many_shards(folder: Path) -> TinyWorld:
    world = TinyWorld(folder)
    world.settings["shard_bytes"] = 2048
    world.set(select={"method": "random"}, flags={"ngram_words": 12})
    (world.folder / "mira.yaml").write_text(json.dumps(world.settings))
    return world


def config_of(world: TinyWorld) -> Path:
    return world.folder / "mira.yaml"


def tree(run: Path) -> dict[str, str]:
    """Name -> hash of what a run leaves to others."""
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {
        name: hash_file(path)
        for name, path in files.items()
        if name not in OWN and name.partition("/")[0] not in LEFT and not Path(name).name.startswith(".")
    }
