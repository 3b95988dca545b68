"""A corpus of three sources, one of them wholly masked, and what a selection of it wrote."""

import hashlib
from pathlib import Path

from mira.run_folder.paths import RunFolder
from support.selection_world import World, items

WRITTEN = ("selection", "selected", "thresholds.json", "kept.json")
SOURCES = ("ant", "bee", "cat")


def world(folder: Path, n: int = 30) -> World:
    """Make it, with two shards per source."""
    sources = {s: [items(f"{s}{at}", n, seed=at) for at in range(2)] for s in SOURCES}
    made = World(folder, sources, {"one": ["ant", "bee"], "two": ["cat"]})
    made.mask({"ant": ["A2"], "cat": ["A1", "A2", "A3", "A4"]})
    return made


def outputs(run: RunFolder) -> dict[str, str]:
    """Return name -> hash of everything that a selection writes."""
    paths = [path for name in WRITTEN for path in [run.path / name, *sorted((run.path / name).rglob("*"))]]
    return {path.relative_to(run.path).as_posix(): hash_bytes(path.read_bytes()) for path in paths if path.is_file()}


def hash_bytes(content: bytes) -> str:
    """Return a hash."""
    return hashlib.blake2b(content).hexdigest()
