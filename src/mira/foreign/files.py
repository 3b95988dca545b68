"""Files of foreign scores, joined with the index by id: in DuckDB, which spills to the disk, never in a Python dict."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.scores import ForeignSettings
from mira.config.settings import CorpusSettings, SourceSettings
from mira.corpus import Shard, shards
from mira.corpus.database import listed, register_source
from mira.corpus.files.lines import Damaged
from mira.corpus.files.tables import opened
from mira.corpus.shards import format_of
from mira.errors import ConfigError, ConservationError, InputError
from mira.foreign.values import REASONS, Missing, check_column, code_of, ids_of
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder

__all__ = ["FileCounts", "Given", "files_key", "given_scores", "score_files", "source_rows"]

_BATCH = 1 << 16
_CONFLICTS = 3
_SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string()), ("value", pa.float64()), ("code", pa.uint8())])


@dataclass(slots=True)
class FileCounts:
    """Rows of the files of one score. rows = ids + repeated + without_id.

    Attributes:
        rows: All rows.
        without_id: Rows whose id is null or empty.
        ids: Distinct ids (of a source, if the files say so).
        repeated: Further rows of an id.
        conflicting: Ids that have different scores.
        used: Ids that a valid record has.
        unused: Ids that no valid record has. ids = used + unused.
        shared: Ids that records of several sources have, which then all get the id's score.
    """

    rows: int = 0
    without_id: int = 0
    ids: int = 0
    repeated: int = 0
    conflicting: int = 0
    used: int = 0
    unused: int = 0
    shared: int = 0


@dataclass(slots=True)
class Given:
    """The scores of files, ready to be joined.

    Attributes:
        con: The database that holds them.
        by_source: Whether ids are kept apart by source.
        counts: What the files hold.
    """

    con: duckdb.DuckDBPyConnection
    by_source: bool
    counts: FileCounts


def score_files(corpus: CorpusSettings, name: str, settings: ForeignSettings) -> list[Shard]:
    """Return the Parquet files of a score.

    Raises:
        InputError: A path matches nothing, or is not Parquet.
    """
    where = f"scores.{name}"
    try:
        found = shards(replace(corpus, sources=[SourceSettings(name=where, path=settings.path)]))[where]
    except InputError as error:
        raise InputError(str(error.message).replace(f"source '{where}'", where), error.hint) from None
    for shard in found:
        if format_of(shard.path).kind != "parquet":
            raise InputError(
                f"{where}.path: {shard.path} is not Parquet",
                "Write the scores as Parquet with a column of ids and a column of numbers, or name a field of the "
                "records with `field`.",
            )
    return found


def files_key(found: Sequence[Shard]) -> str:
    """Return the hash of the content of files."""
    return hash_json([shard.fingerprint for shard in found])


def given_scores(
    con: duckdb.DuckDBPyConnection, name: str, settings: ForeignSettings, found: Sequence[Shard], temporary: Path
) -> Given:
    """Read the files of a score into a table of one row per id.

    Args:
        con: A database that spills to the disk.
        name: The score's name.
        settings: Its columns, range and what to do with conflicts.
        found: Its files.
        temporary: Where rows are written in between.

    Raises:
        ConfigError: A column is missing or has a type that cannot be read.
        InputError: A file is damaged, or ids have different scores.
    """
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        for shard in found:
            for batch in _batches(name, settings, shard):
                writer.write_batch(batch)
    rows = f"read_parquet([{listed([str(temporary)])}])"
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE given AS SELECT id, source, count(*) AS n, min(value) AS value,
        max(value) AS most, min(code) AS code,
        min(value) IS DISTINCT FROM max(value) OR min(code) <> max(code) AS conflicting
        FROM {rows} WHERE id IS NOT NULL GROUP BY id, source"""
    )
    total = con.execute(f"SELECT count(*) FROM {rows}").fetchall()[0][0]
    ids, in_ids, conflicting = con.execute(
        "SELECT count(*), coalesce(sum(n), 0), count(*) FILTER (conflicting) FROM given"
    ).fetchall()[0]
    if conflicting and settings.conflicts == "refuse":
        raise _conflict(con, name, settings, int(conflicting))
    code = code_of(Missing.CONFLICTING)
    con.execute(f"UPDATE given SET value = NULL, code = {code} WHERE conflicting")
    con.execute("CREATE OR REPLACE TEMP TABLE used (id VARCHAR, source VARCHAR)")
    counts = FileCounts(
        rows=int(total), without_id=int(total) - int(in_ids), ids=int(ids), repeated=int(in_ids) - int(ids),
        conflicting=int(conflicting),
    )  # fmt: skip
    return Given(con, bool(settings.source_column), counts)


def source_rows(given: Given, run: RunFolder, source: str) -> Iterator[tuple[str, pa.Table]]:
    """Yield shard and (row, id, value, code) of a source's valid records, by shard and row; shards may come in parts.

    Raises:
        RunError: The source is not indexed.
    """
    con = given.con
    con.execute("SET preserve_insertion_order = true")  # the order below must reach the reader
    register_source(con, run, source)
    con.execute("CREATE OR REPLACE TEMP TABLE of_source AS SELECT ?::VARCHAR AS name", [source])
    same = "g.id = v.id" + (" AND g.source = (SELECT name FROM of_source)" if given.by_source else "")
    con.execute(f"INSERT INTO used SELECT g.id, g.source FROM given g SEMI JOIN valid v ON {same}")
    rows = con.sql(
        f"""SELECT v.shard, v.row, v.id, g.value, coalesce(g.code, {code_of(Missing.NO_ROW)})::UTINYINT AS code
        FROM valid v LEFT JOIN given g ON {same} ORDER BY v.place, v.row"""
    )
    for batch in rows.to_arrow_reader(_BATCH):
        names = batch["shard"].dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        edges = np.flatnonzero(np.diff(codes)) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(batch)], strict=True):
            if stop > start:
                part = pa.Table.from_batches([batch.slice(start, stop - start)])
                yield part["shard"][0].as_py(), part.drop_columns(["shard"])


def finish(given: Given) -> FileCounts:
    """Return the counts after all sources are joined.

    Raises:
        ConservationError: They do not add up.
    """
    counts = given.counts
    joined, used = given.con.execute("SELECT count(*), count(DISTINCT (id, source)) FROM used").fetchall()[0]
    (shared,) = given.con.execute(
        "SELECT count(*) FROM (SELECT id, source FROM used GROUP BY id, source HAVING count(*) > 1)"
    ).fetchall()[0]
    counts.used, counts.unused, counts.shared = int(used), counts.ids - int(used), int(shared)
    if counts.rows != counts.ids + counts.repeated + counts.without_id or counts.unused < 0 or joined < used:
        raise ConservationError(f"the rows of a score's files do not add up: {counts}", "Report this as a bug of mira.")
    return counts


def _conflict(con: duckdb.DuckDBPyConnection, name: str, settings: ForeignSettings, n: int) -> InputError:
    rows = con.execute(
        f"SELECT id, value, most, code FROM given WHERE conflicting ORDER BY id LIMIT {_CONFLICTS}"
    ).fetchall()
    shown = "; ".join(
        f"{id} has {'a score and a missing one' if low == most else f'{low:g} and {most:g}'}"
        for id, low, most, _code in rows
    )
    column = f"or name the column that tells their sources apart in scores.{name}.source_column, "
    return InputError(
        f"scores.{name}: {n:,} ids have different scores in the files: {shown}",
        f"Remove the rows that are wrong, {'' if settings.source_column else column}"
        f"or set scores.{name}.conflicts: missing.",
    )


def _batches(name: str, settings: ForeignSettings, shard: Shard) -> Iterator[pa.RecordBatch]:
    column, where = settings.column or name, f"scores.{name}: {shard.path}"
    wanted = [settings.id, column, *([settings.source_column] if settings.source_column else [])]
    try:
        with opened(shard.path, "parquet") as file:
            _check_columns(where, settings, column, file.schema_arrow)
            for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(wanted)), use_threads=False):
                ids = ids_of(batch[settings.id])
                if ids is None:
                    raise ConfigError(
                        f"{where}: column '{settings.id}' has ids that are neither text nor whole numbers below 2^53",
                        f"Write the ids as text, or name another column in scores.{name}.id.",
                    )
                values, codes = check_column(batch[column], settings)
                sources = pa.nulls(len(batch), pa.string())
                if settings.source_column:
                    sources = batch[settings.source_column].cast(pa.string())
                numbers = pa.array(values, from_pandas=True)
                yield pa.RecordBatch.from_arrays([ids, sources, numbers, pa.array(codes)], schema=_SCHEMA)
    except Damaged as damage:
        raise InputError(f"{where}: {damage.args[0]}", "Write the file again.") from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read: {error}", "Write the file again.") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror or error}", "Correct the path.") from None


def _check_columns(where: str, settings: ForeignSettings, column: str, schema: pa.Schema) -> None:
    for setting, wanted in (("id", settings.id), ("column", column), ("source_column", settings.source_column)):
        if wanted and wanted not in schema.names:
            near = difflib.get_close_matches(wanted, schema.names, n=1)
            raise ConfigError(
                f"{where}: there is no column '{wanted}'" + (f"; did you mean {near[0]}?" if near else ""),
                f"Its columns are {', '.join(schema.names)}. Set `{setting}` of the score.",
            )
    kind = schema.field(column).type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(check(kind) for check in numeric):
        raise ConfigError(
            f"{where}: column '{column}' holds {kind}, not numbers",
            "Name a column of numbers or booleans (true counts as 1, false as 0); convert text to numbers first.",
        )


def reasons_of(codes: pa.ChunkedArray) -> Any:
    """Return reasons by code, null where a value is not missing."""
    places = codes.to_numpy().astype(np.int64)
    return pa.array([None, *REASONS], pa.string()).take(pa.array(places)).dictionary_encode()
