"""Marks of what workers wrote: `written/<source>/<shard>.json`.

A mark names the plan that a shard was written under, the shard's counts, and what its two files are known by. A shard
is done if its mark is of the plan at hand and the files are those that the mark tells. So files of another selection
need not be removed before a worker begins, and no worker removes what another one wrote.
"""

from pathlib import Path
from typing import Any

from mira.corpus import Shard
from mira.corpus.shards import format_of
from mira.run_folder.content import content_state
from mira.run_folder.files import read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.selection.write import Counts

__all__ = ["kept_path", "read_mark", "write_mark"]


def kept_path(run: RunFolder, shard: Shard) -> Path:
    """Return where a shard's kept records are."""
    return run.selected(shard.source) / f"{shard.name}{format_of(shard.path).extension}"


def write_mark(run: RunFolder, plan: str, shard: Shard, counts: Counts) -> None:
    """Mark a shard as written under a plan. Its files are in place."""
    write_json(_path(run, shard), {"plan": plan, "counts": counts, **_files(run, shard, counts)})


def read_mark(run: RunFolder, plan: str, shard: Shard) -> Counts | None:
    """Return the counts of a shard that was written under a plan; None if it was not, or its files have changed."""
    try:
        mark = read_json(_path(run, shard))
        counts = Counts(**mark["counts"])
        files = {"sidecar": mark["sidecar"], "kept": mark["kept"]}
    except (OSError, ValueError, TypeError, KeyError):  # missing or damaged
        return None
    return counts if mark["plan"] == plan and files == _files(run, shard, counts) else None


def _path(run: RunFolder, shard: Shard) -> Path:
    return run.written(shard.source) / f"{shard.name}.json"


def _files(run: RunFolder, shard: Shard, counts: Counts) -> dict[str, Any]:
    sidecar = content_state(run.selection(shard.source) / f"{shard.name}.parquet")
    return {"sidecar": sidecar, "kept": [] if counts.written is None else content_state(kept_path(run, shard))}
