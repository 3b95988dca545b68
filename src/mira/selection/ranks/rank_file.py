"""Rank files: `ranks/<method>/<source>/<shard>.parquet` of the run folder, which workers write for the cutoffs.

A row is a record that competes: key (uint64, the value's rank key), tie (uint64, the id's hash), n_tokens, and stratum
where the method has strata. Rows are sorted by key and tie within runs of at most 4,194,304 rows, in row groups with
the smallest and largest key of each, so that a narrow interval of keys is a few kilobytes to read. The metadata hold
what the gather reads of every shard: its `Summary`, records and tokens by bin of the first sweep, the longest record,
and the 256 records of the smallest tie hashes, which are a sample.

All of it follows from the shard's values alone, so that whoever writes it writes the same bytes.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.arrays import Words
from mira.config.settings import CorpusSettings
from mira.corpus.index import check_shard
from mira.run_folder.content import by_content
from mira.run_folder.files import atomic, hash_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import ranged
from mira.selection.cuts import Chunk, Counts, Interval, Tally, merge, tally
from mira.selection.ordering import rank_keys, values_of_keys
from mira.selection.value_reader import ValueChunk, read_values
from mira.selection.values import Summary, ValueTask, identity_of, make_values, values_path
from mira.tokens import tokenizer

__all__ = [
    "SAMPLE",
    "Head",
    "RankTask",
    "check_ranks",
    "make_ranks",
    "merged_heads",
    "rank_identity",
    "ranks_path",
    "read_head",
    "read_ranks",
    "read_rows",
]

SAMPLE = 256
"""Records of a rank file's sample."""

_VERSION = 1
_GROUP = 1 << 13  # rows of a row group
_RUN = 1 << 22  # rows that are sorted together
_FULL = (1 << 64) - 1
_MOST_SAMPLED = 60_000  # records of a source's merged sample
_HEAD = b"mira.ranks"
_COLUMNS = [("key", pa.uint64()), ("tie", pa.uint64()), ("n_tokens", pa.int32())]
_TYPES = {"bin": "<u4", "tokens": "<u8", "records": "<u4", "key": "<u8", "tie": "<u8", "n_tokens": "<u4"}
_WORDS = ("bin", "key", "tie")
_STRATUM = ("stratum", pa.dictionary(pa.int32(), pa.string()))


class RankTask(NamedTuple):
    """One shard whose rank file is to be there.

    Attributes:
        path: The rank file.
        corpus: How the corpus is read.
        value: The values that it is made of.
    """

    path: Path
    corpus: CorpusSettings
    value: ValueTask


class Head(NamedTuple):
    """What rank files tell without their rows; heads of one source add up.

    Attributes:
        bins: Records and tokens by bin of the first sweep (`Interval()`).
        longest: Tokens of the longest record that competes; 0 of none.
        sample: Records of the smallest tie hashes.
        sampled: The sample has every record whose tie hash is at most this.
    """

    bins: Tally
    longest: int = 0
    sample: Chunk = Chunk(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    sampled: int = _FULL


NO_HEAD = Head(merge([], Interval()))


def ranks_path(run: RunFolder, method: str, source: str, shard: str) -> Path:
    """Return where a shard's rank file is."""
    return run.path / "ranks" / method / source / f"{shard}.parquet"


def rank_identity(task: RankTask) -> str:
    """Hash everything that a rank file depends on. It is the same on every machine.

    Raises:
        RunError: What the method reads knows nothing of the shard's source.
    """
    corpus, shard = task.corpus, task.value.shard
    indexed = corpus.source(shard.source).model_dump(mode="json", exclude={"language", "path"})
    counted = [tokenizer(corpus.tokenizer).identity, corpus.max_record_bytes]
    with by_content():
        return hash_json([_VERSION, shard.fingerprint, indexed, counted, identity_of(task.value)])


def make_ranks(task: RankTask) -> Summary:
    """Write a shard's rank file, unless it is there already; its values are made first where they are missing.

    Returns:
        The summary of the values, under the identity that it has on every machine.

    Raises:
        RunError: A sidecar is missing, or does not match the index; or the index does not match the shard.
    """
    identity = rank_identity(task)
    if known := check_ranks(task, identity):
        return known[0]
    run, _, shard, folder, *_ = task.value
    check_shard(task.corpus, run, shard)
    with atomic(task.path) as temporary:  # values that are made meanwhile can be read at once
        summary = replace(make_values(task.value), identity=identity)
        _write(temporary, values_path(run, folder, shard.source, shard.name), summary)
    return summary


def check_ranks(task: RankTask, identity: str | None = None) -> tuple[Summary, Head] | None:
    """Return what a shard's rank file tells; None if it is missing, damaged, or of another identity."""
    found = read_head(task.path)
    shard = task.value.shard
    if found is None or (found[0].source, found[0].shard) != (shard.source, shard.name):
        return None
    return found if found[0].identity == (identity or rank_identity(task)) else None


def _write(path: Path, values: Path, summary: Summary) -> None:
    schema = pa.schema([*_COLUMNS, *([_STRATUM] if summary.strata else [])])
    head = NO_HEAD
    encoding = {"key": "DELTA_BINARY_PACKED", "n_tokens": "DELTA_BINARY_PACKED"}
    with pq.ParquetWriter(
        path, schema, compression="none", use_dictionary=["stratum"], write_statistics=["key"], column_encoding=encoding
    ) as writer:
        for chunk, strata in _sorted_runs(values):
            columns = [pa.array(chunk.keys), pa.array(chunk.ties), pa.array(chunk.tokens, pa.int32())]
            table = pa.Table.from_arrays([*columns, *([strata] if summary.strata else [])], schema=schema)
            writer.write_table(table, row_group_size=_GROUP)
            head = merged_heads([head, _head_of(chunk)], SAMPLE)
        writer.add_key_value_metadata({_HEAD.decode(): _encoded(summary, head)})


def _sorted_runs(values: Path) -> Iterator[tuple[Chunk, pa.Array]]:
    """Yield the records that compete, sorted, a run at a time."""
    held: list[tuple[Chunk, pa.Array]] = []
    n = 0
    for part in read_values(values):
        has = part.ranked()
        strata = part.strata.filter(pa.array(has)).cast(pa.string())
        tokens = part.n_tokens[has].astype(np.int64)
        held.append((Chunk(rank_keys(part.values[has]), part.ties[has], tokens), strata))
        n += len(tokens)
        if n >= _RUN:
            yield _sorted(held)
            held, n = [], 0
    if n:
        yield _sorted(held)


def _sorted(parts: Sequence[tuple[Chunk, pa.Array]]) -> tuple[Chunk, pa.Array]:
    whole = _joined([chunk for chunk, _ in parts])
    strata = pa.concat_arrays([strata for _, strata in parts])
    order = np.lexsort((whole.ties, whole.keys))
    return _rows(whole, order), strata.take(pa.array(order)).dictionary_encode()


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(*(np.concatenate(column) for column in zip(NO_HEAD.sample, *chunks, strict=True)))


def _head_of(chunk: Chunk) -> Head:
    return Head(tally(Interval(), chunk), int(chunk.tokens.max(initial=0)), chunk)


def merged_heads(heads: Sequence[Head], most: int = _MOST_SAMPLED) -> Head:
    """Add up heads of one source: the sample keeps at most so many records."""
    bins = merge([head.bins for head in heads], Interval())
    sampled = min((head.sampled for head in heads), default=_FULL)
    sample = _joined([head.sample for head in heads])
    if len(sample.ties) > most:
        sampled = min(sampled, int(np.partition(sample.ties, most - 1)[most - 1]))
    longest = max((head.longest for head in heads), default=0)
    return Head(bins, longest, _rows(sample, sample.ties <= np.uint64(sampled)), sampled)


def _rows(chunk: Chunk, which: npt.NDArray[Any]) -> Chunk:
    return Chunk(chunk.keys[which], chunk.ties[which], chunk.tokens[which])


def read_head(path: Path) -> tuple[Summary, Head] | None:
    """Return what a rank file tells; None if it is missing or damaged. Only the end of the file is read."""
    try:
        with ranged(path) as source:
            told = orjson.loads((pq.read_metadata(source).metadata or {})[_HEAD])
        summary = Summary(**told["summary"])
        bins, sample = _unpacked(told["bins"]), _unpacked(told["sample"])
        return summary, Head(
            Tally(bins["bin"], bins["bin"][:0], bins["tokens"], bins["records"]),
            told["longest"],
            Chunk(sample["key"], sample["tie"], sample["n_tokens"]),
            told["sampled"],
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError, zlib.error, pa.ArrowException):
        return None


def _encoded(summary: Summary, head: Head) -> str:
    bins, sample = head.bins, head.sample
    return orjson.dumps(
        {
            "summary": asdict(summary),
            "longest": head.longest,
            "sampled": head.sampled,
            "bins": _packed({"bin": bins.bins, "tokens": bins.tokens, "records": bins.records}),
            "sample": _packed({"key": sample.keys, "tie": sample.ties, "n_tokens": sample.tokens}),
        }
    ).decode()


def _packed(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Return columns as text, which metadata are: little-endian integers, compressed, in base64."""
    small = {name: np.ascontiguousarray(column, _TYPES[name]) for name, column in columns.items()}
    return {name: base64.b64encode(zlib.compress(column.tobytes())).decode() for name, column in small.items()}


def _unpacked(columns: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    found = {n: np.frombuffer(zlib.decompress(base64.b64decode(text)), _TYPES[n]) for n, text in columns.items()}
    return {name: column.astype(np.uint64 if name in _WORDS else np.int64) for name, column in found.items()}


def read_rows(path: Path, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[Words, Words, Counts]]:
    """Yield keys, ties and tokens of the row groups that have keys in some ranges; only these are read.

    Args:
        path: A rank file.
        ranges: First and last key of each.
    """
    with ranged(path) as source, pq.ParquetFile(source, pre_buffer=not isinstance(source, str | Path)) as file:
        found = []
        for at in range(file.metadata.num_row_groups):
            spread = file.metadata.row_group(at).column(0).statistics
            if any(spread.min <= last and spread.max >= first for first, last in ranges):
                found.append(at)
        for at in range(0, len(found), 8):
            table = file.read_row_groups(found[at : at + 8], columns=["key", "tie", "n_tokens"], use_threads=False)
            yield table["key"].to_numpy(), table["tie"].to_numpy(), table["n_tokens"].to_numpy().astype(np.int64)


def read_ranks(path: Path) -> Iterator[ValueChunk]:
    """Yield a rank file's records as `read_values` yields those that compete, in another order."""
    with ranged(path) as source, pq.ParquetFile(source, pre_buffer=not isinstance(source, str | Path)) as file:
        for batch in file.iter_batches(1 << 16, use_threads=False):
            nothing = pa.nulls(len(batch), pa.string())
            strata = batch["stratum"] if "stratum" in batch.schema.names else nothing
            values = values_of_keys(batch["key"].to_numpy())
            yield ValueChunk(values, batch["tie"].to_numpy(), batch["n_tokens"].to_numpy(), nothing, strata)
