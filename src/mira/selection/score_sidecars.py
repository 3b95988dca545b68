"""Which score sidecars decide: the student's, or those that the cascade made of them, and only while they fit."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import SelectSettings
from mira.corpus import Shard
from mira.errors import RunError
from mira.run_folder.files import hash_file
from mira.run_folder.paths import RunFolder

__all__ = ["CASCADE", "MERGED_FROM", "check_merged", "made_by", "scores_path"]

CASCADE = "cascade"
MERGED_FROM = b"mira.merged_from"
"""Metadata of a cascade's sidecar: hash of the score sidecar that it was merged from."""


def scores_path(select: SelectSettings, run: RunFolder, shard: Shard) -> Path:
    """Return the sidecar whose scores rank a shard's records, as `select.scores` says."""
    folder = run.cascade(shard.source) if select.scores == CASCADE else run.scores(shard.source)
    return folder / f"{shard.name}.parquet"


def made_by(select: SelectSettings) -> str:
    """Return the command that makes these sidecars."""
    return "mira cascade" if select.scores == CASCADE else "mira score"


def check_merged(run: RunFolder, shard: Shard) -> None:
    """Check that a shard's cascade sidecar was merged from the scores that are there now.

    Raises:
        RunError: It is missing, or it was merged from other scores.
    """
    name = f"{shard.name}.parquet"
    path, scores = run.cascade(shard.source) / name, run.scores(shard.source) / name
    way_out = "Run `mira cascade` (answers that were paid for are kept), or set select.scores to student."
    if not path.is_file():
        raise RunError(f"{path} is not there yet, but select.scores is cascade", way_out)
    try:
        merged_from = (pq.read_schema(path).metadata or {}).get(MERGED_FROM)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{path}: cannot be read: {error}", way_out) from None
    if not scores.is_file() or merged_from != hash_file(scores).encode():
        raise RunError(f"{path} was made of other scores than {scores} holds now", way_out)
