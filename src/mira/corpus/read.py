"""Reading indexed records back: a shard, chosen ids, a sample."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import zip_longest
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import CorpusSettings
from mira.corpus import database
from mira.corpus.index import check_shard, duplicates_path, shard_path
from mira.corpus.parse import Parser
from mira.corpus.record import Record
from mira.corpus.shards import Shard, shards
from mira.errors import InputError, RunError
from mira.run_folder.paths import RunFolder

__all__ = ["fetch", "field_values", "pick", "read", "sample_ids"]


def read(corpus: CorpusSettings, run: RunFolder, shard: Shard) -> Iterator[Record]:
    """Yield a shard's valid records in order of row, with `n_tokens` from the index. Memory is bounded.

    Raises:
        RunError: The shard is not indexed, or has changed since.
    """
    check_shard(corpus, run, shard)
    shard.check_unchanged()
    doubled = _duplicate_rows(run, shard)
    items = Parser(corpus.source(shard.source), corpus.max_record_bytes).parse(shard)
    for counted, item in zip_longest(_counts(run, shard), items):
        if counted is None or item is None or item.row != counted[0]:
            raise RunError(f"{shard.path} has changed while it was read", "Run again.")
        if isinstance(item, Record) and item.row not in doubled:
            yield with_tokens(item, counted[1])
    shard.check_unchanged()


def with_tokens(record: Record, n_tokens: int) -> Record:
    """Return the record with its number of tokens."""
    return Record(record.id, record.source, record.family, record.parts, record.row, n_tokens)


def _duplicate_rows(run: RunFolder, shard: Shard) -> frozenset[int]:
    table = pq.read_table(duplicates_path(run, shard.source), filters=[("shard", "=", shard.name)], columns=["row"])
    return frozenset(table.column("row").to_pylist())


def _counts(run: RunFolder, shard: Shard) -> Iterator[tuple[int, int]]:
    with pq.ParquetFile(shard_path(run, shard)) as file:
        for batch in file.iter_batches(batch_size=2**16, columns=["row", "n_tokens"]):
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)


def fetch(
    corpus: CorpusSettings, run: RunFolder, source: str, ids: Collection[str], *, allow_missing: bool = False
) -> list[Record]:
    """Return the records that `pick` yields, sorted by id."""
    return sorted(pick(corpus, run, source, ids, allow_missing=allow_missing), key=lambda record: record.id)


def pick(
    corpus: CorpusSettings, run: RunFolder, source: str, ids: Collection[str], *, allow_missing: bool = False
) -> Iterator[Record]:
    """Yield the valid records of these ids in order of file and row. Reads only the shards that hold them.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        source: The source's name.
        ids: Ids; repetitions do not matter.
        allow_missing: Leave out ids that are not valid records, instead of raising.

    Raises:
        InputError: An id is not a valid record of the source.
        RunError: The source is not indexed, or has changed since.
    """
    wanted = sorted(set(ids))
    with database.connect(run) as con:
        database.register_source(con, run, source)
        con.register("wanted", pa.table({"id": pa.array(wanted, pa.string())}))
        hits = con.execute("SELECT shard, row, id, n_tokens FROM valid SEMI JOIN wanted USING (id)").fetchall()
    if len(hits) < len(wanted) and not allow_missing:
        lost = sorted(set(wanted) - {h[2] for h in hits})
        raise InputError(
            f"source '{source}': {len(lost):,} ids are not valid records of it: {', '.join(lost[:3])}",
            "Check that the ids belong to these files; changed files give other ids to records without one.",
        )
    rows: dict[str, dict[int, int]] = defaultdict(dict)
    for name, row, _, n_tokens in hits:
        rows[name][row] = n_tokens
    for shard in shards(corpus)[source]:
        if shard.name in rows:
            check_shard(corpus, run, shard)
            shard.check_unchanged()
            yield from _rows(corpus, shard, rows[shard.name])
            shard.check_unchanged()


def field_values(corpus: CorpusSettings, run: RunFolder, source: str, path: str) -> dict[str, Any]:
    """Return id -> value of a field outside the record; records where it is missing or null are left out.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        source: The source's name.
        path: The field, e.g. "meta.kind".

    Raises:
        RunError: The source is not indexed, or has changed since.
    """
    with database.connect(run) as con:
        database.register_source(con, run, source)
        known = {(str(s), int(r)): str(i) for s, r, i in con.execute("SELECT shard, row, id FROM valid").fetchall()}
    parser, found = Parser(corpus.source(source), corpus.max_record_bytes), {}
    for shard in shards(corpus)[source]:
        check_shard(corpus, run, shard)
        for row, value in parser.values(shard, path):
            if value is not None and (shard.name, row) in known:
                found[known[shard.name, row]] = value
    return found


def _rows(corpus: CorpusSettings, shard: Shard, rows: dict[int, int]) -> Iterator[Record]:
    last = max(rows)
    for item in Parser(corpus.source(shard.source), corpus.max_record_bytes).parse(shard, rows):
        if isinstance(item, Record):
            yield with_tokens(item, rows[item.row])
        if item.row >= last:
            return


def sample_ids(run: RunFolder, source: str, n: int, seed: int, purpose: str) -> list[str]:
    """Return the n valid ids of smallest md5(seed, purpose, id), in that order.

    A smaller sample is the start of a larger one, and the sample does not depend on the order of files. With files
    added, an id leaves it only for a new one of smaller hash.

    Args:
        run: The run folder.
        source: The source's name.
        n: How many; fewer are returned where there are fewer.
        seed: Part of the hash.
        purpose: What for; different purposes give independent samples.

    Raises:
        RunError: The source is not indexed.
    """
    with database.connect(run) as con:
        database.register_source(con, run, source)
        found = con.execute(
            "SELECT id FROM valid ORDER BY md5(concat(?::VARCHAR, id)), id LIMIT ?", [f"{seed}/{purpose}/", n]
        ).fetchall()
    return [str(i) for (i,) in found]
