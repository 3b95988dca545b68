"""Signatures: what duplicates and contamination are found by, read off each shard's text once.

`signatures/<source>/<shard>.parquet` has a row a valid record, in order of row: row, id, n_tokens; tie (hash of source
and id: of the same texts, the record with the smallest is the one that the others are duplicates of); high and low (128
bits of the text's hash); benchmarks (bit i: an n-gram of benchmark i is in it) and overlap, where there are benchmarks;
minhash (uint16 values) and one column a band, where near duplicates are looked for. The file's key tells what it
follows from.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mira import corpus
from mira.config.settings import CorpusSettings, FlagSettings
from mira.corpus import Record, Shard, records_key
from mira.flags.benchmarks import Benchmarks, load_benchmarks
from mira.flags.minhash import MinHash
from mira.flags.words import Hashes, hash_words
from mira.run_folder.files import KEY, atomic, hash_json, read_key
from mira.run_folder.paths import RunFolder

__all__ = [
    "SignatureTask",
    "band_columns",
    "is_done",
    "make_signatures",
    "signature_key",
    "signature_path",
]

VERSION = 2
_RECORDS, _CHARS = 4096, 2**21


@dataclass(frozen=True, slots=True)
class SignatureTask:
    """One shard to read.

    Attributes:
        minhash: How near duplicates are sketched; None where they are not looked for.
        benchmarks: Key of the benchmarks' n-grams; "" without benchmarks.
        key: What the file must carry to count as done.
    """

    settings: FlagSettings
    corpus: CorpusSettings
    run: RunFolder
    shard: Shard
    minhash: MinHash | None
    benchmarks: str
    key: str


def signature_path(run: RunFolder, shard: Shard) -> Path:
    """Return where a shard's signatures are."""
    return run.signatures(shard.source) / f"{shard.name}.parquet"


def signature_key(run: RunFolder, shard: Shard, minhash: MinHash | None, benchmarks: str) -> str:
    """Hash what a shard's signatures depend on: its records, and the settings."""
    return hash_json([VERSION, records_key(run, shard), minhash and minhash.identity, benchmarks])


def is_done(task: SignatureTask) -> bool:
    """Return whether a shard's signatures are up to date."""
    return read_key(signature_path(task.run, task.shard)) == task.key


def band_columns(n_bands: int) -> list[str]:
    """Return the names of the bands' columns."""
    return [f"band_{i:03d}" for i in range(n_bands)]


def make_signatures(task: SignatureTask) -> int:
    """Write one shard's signatures. Memory is bounded.

    Returns:
        Number of records.

    Raises:
        RunError: The shard is not indexed, or has changed since.
    """
    known = load_benchmarks(task.run, task.benchmarks, task.settings.ngram_words) if task.benchmarks else None
    schema = _schema(task)
    n = 0
    with (
        atomic(signature_path(task.run, task.shard)) as temporary,
        pq.ParquetWriter(temporary, schema, use_dictionary=False, compression="zstd") as writer,
    ):
        waiting: list[pa.Table] = []
        for records, texts in _batched(corpus.read(task.corpus, task.run, task.shard)):
            waiting.append(_table(schema, records, texts, task.minhash, known))
            n += len(records)
            if sum(map(len, waiting)) >= 1 << 16:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    return n


def _schema(task: SignatureTask) -> pa.Schema:
    fields = [
        ("row", pa.int64()), ("id", pa.string()), ("n_tokens", pa.int32()), ("tie", pa.uint64()),
        ("high", pa.uint64()), ("low", pa.uint64()),
    ]  # fmt: skip
    if task.benchmarks:
        fields += [("benchmarks", pa.uint64()), ("overlap", pa.float32())]
    if task.minhash:
        fields += [("minhash", pa.binary(2 * task.minhash.permutations))]
        fields += [(name, pa.uint64()) for name in band_columns(task.minhash.n_bands)]
    return pa.schema(fields, metadata={KEY: task.key.encode()})


def _batched(records: Iterator[Record]) -> Iterator[tuple[list[Record], list[str]]]:
    """Group records with their text until they are many or long enough to be worked on together."""
    batch: list[Record] = []
    texts: list[str] = []
    chars = 0
    for record in records:
        batch.append(record)
        texts.append(record.text)
        chars += len(texts[-1])
        if len(batch) >= _RECORDS or chars >= _CHARS:
            yield batch, texts
            batch, texts, chars = [], [], 0
    if batch:
        yield batch, texts


def _table(
    schema: pa.Schema,
    records: Sequence[Record],
    texts: Sequence[str],
    minhash: MinHash | None,
    known: Benchmarks | None,
) -> pa.Table:
    digests = np.frombuffer(b"".join(map(_text_hash, texts)), "<u8").reshape(-1, 2)
    columns = [
        [r.row for r in records], [r.id for r in records], [r.n_tokens for r in records], _ties(records),
        digests[:, 0], digests[:, 1],
    ]  # fmt: skip
    if known or minhash:
        words, offsets = hash_words(texts)
        if known:
            found = known.look_up(words, offsets)
            columns += [found.owners, found.overlap]
        if minhash:
            sketches = minhash(words, offsets)
            lacking = ~sketches.has
            values = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(2 * minhash.permutations), len(records), [None, pa.py_buffer(sketches.values.tobytes())]
            )
            columns += [values, *(pa.array(band, mask=lacking) for band in sketches.bands.T)]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def _text_hash(text: str) -> bytes:
    """Hash a text in Unicode form NFC, every run of white space as one space, none at its ends (ours): 16 bytes."""
    same = text if text.isascii() else unicodedata.normalize("NFC", text)
    return hashlib.blake2b(" ".join(same.split()).encode(), digest_size=16).digest()


def _ties(records: Sequence[Record]) -> Hashes:
    digests = (hashlib.blake2b(f"{r.source}\0{r.id}".encode(), digest_size=8).digest() for r in records)
    return np.frombuffer(b"".join(digests), "<u8")
