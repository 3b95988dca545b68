"""A method's values: one a record, in sidecars `values/<method>/<source>/<shard>.parquet` of the run folder.

Columns: value (float64, larger is better, null = not ranked), tie (the id's hash), n_tokens, reason (null where the
method has a value). Retention reads nothing else, so that another budget, scope or temperature never asks a method
again, and methods can be compared over one run folder.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config import Config
from mira.corpus import Shard
from mira.files import atomic, hash_json
from mira.run import RunFolder
from mira.selection.blocks import Block, count_rejected, index_blocks
from mira.selection.keys import Floats, Words, hash_ids

__all__ = ["MASKED", "Ranked", "SelectionMethod", "Summary", "ValueTask", "file_state", "make_values", "values_path"]

MASKED = "masked_source"
"""Reason of every record of a source whose every slot is masked."""

_SCHEMA = pa.schema(
    [
        ("value", pa.float64()),
        ("tie", pa.uint64()),
        ("n_tokens", pa.int32()),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
    ]
)


class Ranked(NamedTuple):
    """What a method says of one block of records.

    Attributes:
        values: One float64 a record, larger is better; NaN where the method has none.
        reasons: Why there is no value, a string or null a record; None where every record has a value.
    """

    values: Floats
    reasons: pa.Array | None = None


class SelectionMethod(Protocol):
    """One way to rank records. Retention under the budget is the same for all.

    A method must be picklable, and what it says of a record must not depend on shard or block.

    Attributes:
        name: Its name in `select.method`.
        has_quality: Whether its values judge records (they go into the column `quality`), or are only an order.
        reads_text: Whether it reads the records' text: then shards are worth processes of their own.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def has_quality(self) -> bool: ...  # noqa: D102

    @property
    def reads_text(self) -> bool: ...  # noqa: D102

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """Return the hash of everything but the index that the shard's values depend on."""
        ...

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Yield one `Ranked` a block of the shard's valid records."""
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """A shard's values in numbers.

    Attributes:
        source: Source of the shard.
        shard: The shard's name.
        identity: Hash of what the values depend on.
        rows: Lines or rows of the shard.
        rejected: Those that are no valid record.
        records: Valid records.
        tokens: Their tokens.
        ranked_records: Records that compete: they have a value.
        ranked_tokens: Their tokens.
        masked: The source has no unmasked slot.
    """

    source: str
    shard: str
    identity: str
    rows: int = 0
    rejected: int = 0
    records: int = 0
    tokens: int = 0
    ranked_records: int = 0
    ranked_tokens: int = 0
    masked: bool = False


class ValueTask(NamedTuple):
    """One shard to rank."""

    config: Config
    run: RunFolder
    method: SelectionMethod
    shard: Shard


def values_path(run: RunFolder, method: str, source: str, shard: str) -> Path:
    """Return where a shard's values are."""
    return run.path / "values" / method / source / f"{shard}.parquet"


def make_values(task: ValueTask) -> Summary:
    """Rank one shard's records and write their values, unless that is done already.

    Raises:
        RunError: A sidecar is missing, or does not match the index.
    """
    config, run, method, shard = task
    path = values_path(run, method.name, shard.source, shard.name)
    index = run.index(shard.source)
    identity = hash_json(
        [
            method.identity(config, run, shard), config.seed,
            file_state(index / f"{shard.name}.parquet"), file_state(index / "duplicates.parquet"),
        ]
    )  # fmt: skip
    known = _summary(path)
    if known is not None and known["identity"] == identity:
        return Summary(**known)
    return _write(task, path, identity)


def _write(task: ValueTask, path: Path, identity: str) -> Summary:
    config, run, method, shard = task
    records = tokens = ranked_records = ranked_tokens = masked = 0
    pulled: deque[Block] = deque()

    def blocks() -> Iterator[Block]:
        for block in index_blocks(run, shard.source, shard.name):
            pulled.append(block)
            yield block

    with atomic(path) as temporary, pq.ParquetWriter(
        temporary, _SCHEMA, compression="none", use_dictionary=["reason"], write_statistics=False
    ) as writer:  # fmt: skip
        for ranked in method.rank(config, run, shard, blocks()):
            block = pulled.popleft()
            writer.write_table(_table(block, ranked, hash_ids(block.ids, config.seed, shard.source)))
            has = ~np.isnan(ranked.values)
            records, tokens = records + len(block), tokens + int(block.n_tokens.sum(dtype=np.int64))
            ranked_records += int(has.sum())
            ranked_tokens += int(block.n_tokens[has].sum(dtype=np.int64))
            masked |= ranked.reasons is not None and ranked.reasons[0].as_py() == MASKED
        summary = Summary(
            shard.source,
            shard.name,
            identity,
            *count_rejected(run, shard.source, shard.name),
            records,
            tokens,
            ranked_records,
            ranked_tokens,
            bool(masked),
        )
        writer.add_key_value_metadata({"mira": orjson.dumps(summary).decode()})
    return summary


def _table(block: Block, ranked: Ranked, ties: Words) -> pa.Table:
    values = np.where(np.isfinite(ranked.values), ranked.values, np.nan)
    reasons = pa.nulls(len(block), pa.string()) if ranked.reasons is None else ranked.reasons
    arrays = [
        pa.array(values, from_pandas=True), pa.array(ties), pa.array(block.n_tokens), reasons.dictionary_encode()
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        metadata = pq.read_metadata(path).metadata or {}
        found: dict[str, Any] = orjson.loads(metadata[b"mira"])
    except (OSError, KeyError, pa.ArrowInvalid, orjson.JSONDecodeError):
        return None
    return found


def file_state(path: Path) -> list[int]:
    """Return [size, time of change in ns] of a file; [] where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
