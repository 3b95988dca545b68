"""All records of a run in one table, for filters and sorts: made from the sidecars once, and again when they change.

The sidecars are many files in three or four folders, one row per line or per valid record. Put side by side in a DuckDB
file on scratch, a filter or a sort over one or two columns reads those columns and nothing else. The table has numbers,
ids and reasons, no text. It is written a block at a time, so that memory is bounded; it goes when the process ends.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.corpus.index_reader import BLOCK, Rows
from mira.corpus.record import Rejection
from mira.errors import RunError
from mira.hashing import hash_ids
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import method_names

__all__ = ["FLAGS", "STATES", "Progress", "Records", "Table"]

STATES = ("kept", "dropped", "unscored", "rejected", "pending")
"""What became of a line; pending is a record that nothing was decided about yet."""

FLAGS = ("duplicate", "near_duplicate", "contaminated")
"""What a record may be flagged with."""

_AT_ONCE = 300_000  # rows; a smaller table is made before the first page is shown
_MEMORY = "2GB"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the table is: shards read, of how many; and why it cannot be made, if so."""

    done: int = 0
    of: int = 0
    problem: str = ""


class _Part(NamedTuple):
    """A shard of the index and what lies beside it."""

    source: str
    shard: str
    path: Path


@dataclass(frozen=True)
class Table:
    """The table `records`, of one state of the run folder.

    Attributes:
        sources: Their names; column `src` is the place in it.
        shards: Source and name of each shard; column `part` is the place in it.
        slots: A1.., as far as any source has them.
        methods: Methods whose values are there; method i is column `m<i>`.
        foreign: Scores of other programs; score i is column `s<i>`.
        columns: Names of the columns that records can be sorted and filtered by.
        rows: How many.
    """

    con: duckdb.DuckDBPyConnection
    sources: tuple[str, ...]
    shards: tuple[tuple[str, str], ...]
    slots: tuple[str, ...]
    methods: tuple[str, ...]
    foreign: tuple[str, ...]
    columns: tuple[str, ...]
    rows: int

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query; values come as parameters, never as text of the query."""
        with self.con.cursor() as cursor:
            return cursor.execute(sql, list(parameters)).fetchall()

    def rows_of(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a query, and return its rows by column."""
        with self.con.cursor() as cursor:
            found = cursor.execute(sql, list(parameters))
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


class Records:
    """Keeps the table of a run's records up to date.

    Args:
        run: The run folder.
        sources: Names of the sources, in the settings' order.
        seed: Seed of the hashes that decide between equal values.
        scratch: Folder for the table.
    """

    def __init__(self, run: RunFolder, sources: Sequence[str], seed: int, scratch: Path) -> None:
        self._run, self._sources, self._seed, self._scratch = run, tuple(sources), seed, scratch
        self._lock = threading.Lock()
        self._table: Table | None = None
        self._state: Any = None
        self._maker: threading.Thread | None = None
        self._made = 0
        self._closed = threading.Event()
        self.progress = Progress()

    def table(self) -> Table | None:
        """Return the table; None while it is made, see `progress`.

        Raises:
            RunError: Nothing is indexed yet, or the sidecars do not belong together.
        """
        with self._lock:
            state = self._look()
            if state != self._state and (self._maker is None or not self._maker.is_alive()):
                self._state, self.progress = state, Progress(0, len(state))
                self._maker = threading.Thread(target=self._make, daemon=True)
                self._maker.start()
                if self._lines() <= _AT_ONCE:
                    self._maker.join()
            if self._maker is not None and self._maker.is_alive():
                return None
            if self.progress.problem:
                raise RunError(self.progress.problem, "Run the stages again: mira run CONFIG")
        return self._table

    def wait(self) -> Table:
        """Return the table when it is made."""
        while (table := self.table()) is None:
            assert self._maker is not None
            self._maker.join()
        return table

    def close(self) -> None:
        """Close the table; its file can be removed then."""
        if self._maker is not None:
            self._closed.set()
            self._maker.join()
        if self._table is not None:
            self._table.con.close()

    def _parts(self) -> list[_Part]:
        return [
            _Part(source, path.stem, path)
            for source in self._sources
            for path in sorted(self._run.index(source).glob("*.parquet"))
            if path.name != "duplicates.parquet"
        ]

    def _beside(self, part: _Part) -> dict[str, Path]:
        """Return the sidecars of a shard that exist, by what they hold."""
        name, run = f"{part.shard}.parquet", self._run
        folders = {"scores": run.scores, "selection": run.selection, "flags": run.flags, "cascade": run.cascade}
        found = {kind: folder(part.source) / name for kind, folder in folders.items()}
        found |= {f"values.{m}": run.path / "values" / m / part.source / name for m in self._methods()}
        found |= {f"foreign.{score}": run.foreign(score, part.source) / name for score in self._foreign()}
        return {kind: path for kind, path in found.items() if path.is_file()}

    def _methods(self) -> list[str]:
        """Return the folders of values that hold all records."""
        columns = sorted(path.name for path in (self._run.path / "values").glob("column.*"))
        return [*method_names(), *(name for name in columns if not name.endswith((".all", ".gated")))]

    def _foreign(self) -> list[str]:
        return sorted(path.name for path in (self._run.path / "foreign").glob("*") if path.is_dir())

    def _look(self) -> list[tuple[str, int, int]]:
        """Return what decides whether the table is up to date: the files that it is made of."""
        parts = self._parts()
        if not parts:
            raise RunError(f"{self._run.path / 'index'}: nothing is indexed yet", "Run: mira index CONFIG")
        paths = [path for part in parts for path in (part.path, *self._beside(part).values())]
        stats = [(str(path), path.stat()) for path in paths if path.exists()]
        return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]

    def _lines(self) -> int:
        return sum(pq.read_metadata(part.path).num_rows for part in self._parts())

    def _make(self) -> None:
        try:
            made = self._read()
        except (RunError, OSError, pa.ArrowException, duckdb.Error) as error:
            self.progress = Progress(problem=str(error))
            return
        self._table = made

    def _read(self) -> Table:
        parts = self._parts()
        files = [self._beside(part) for part in parts]
        names = {
            kind: {name for of_part in files if kind in of_part for name in pq.read_schema(of_part[kind]).names}
            for kind in ("scores", "cascade")
        }
        slots = tuple(slot_columns(names["scores"]))
        methods = tuple(m for m in self._methods() if m != "raw" and all(f"values.{m}" in f for f in files))
        foreign = tuple(s for s in self._foreign() if any(f"foreign.{s}" in f for f in files))
        schema = _schema(slots, "overall" in names["scores"], "overall" in names["cascade"], len(methods), len(foreign))
        self._made += 1
        path = self._scratch / f"records{self._made}.duckdb"
        con = duckdb.connect(
            str(path), config={"memory_limit": _MEMORY, "temp_directory": str(self._scratch / "spill")}
        )
        con.register("nothing", schema.empty_table())
        con.begin()  # one transaction: written once, not first into a log
        con.execute("CREATE TABLE records AS SELECT * FROM nothing")
        con.unregister("nothing")
        rows, sources = 0, tuple(dict.fromkeys(part.source for part in parts))
        for place, (part, beside) in enumerate(zip(parts, files, strict=True)):
            reader = _Reader(self._run, part, beside, schema, slots, methods, foreign, self._seed)
            for table in reader.blocks(sources.index(part.source), place):
                con.register("block", table)
                con.execute("INSERT INTO records SELECT * FROM block")
                con.unregister("block")
                rows += len(table)
                if self._closed.is_set():
                    con.close()
                    raise RunError("the table of records is not needed any longer")
            self.progress = Progress(place + 1, len(parts))
        con.commit()
        sortable = tuple(name for name in schema.names if name not in ("src", "part", "tie"))
        return Table(con, sources, tuple((p.source, p.shard) for p in parts), slots, methods, foreign, sortable, rows)


def _schema(slots: Sequence[str], overall: bool, cascaded: bool, methods: int, foreign: int) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [
        ("src", pa.uint16()), ("part", pa.int32()), ("row", pa.int64()), ("id", pa.string()), ("tie", pa.uint64()),
        ("state", pa.uint8()), ("reason", pa.string()), ("n_tokens", pa.int32()), ("n_chars", pa.int32()),
        ("quality", pa.float64()), ("flags", pa.uint8()),
    ]  # fmt: skip
    fields += [("overall", pa.float32())] * overall + [("cascade", pa.float32())] * cascaded
    fields += [(slot, pa.float32()) for slot in slots]
    fields += [(f"m{i}", pa.float64()) for i in range(methods)] + [(f"s{i}", pa.float64()) for i in range(foreign)]
    return pa.schema(fields)


class _Reader:
    """Reads one shard's sidecars in step."""

    def __init__(
        self,
        run: RunFolder,
        part: _Part,
        beside: dict[str, Path],
        schema: pa.Schema,
        slots: Sequence[str],
        methods: Sequence[str],
        foreign: Sequence[str],
        seed: int,
    ) -> None:
        self._part, self._schema, self._seed = part, schema, seed
        doubled = run.index(part.source) / "duplicates.parquet"
        self._doubled = pa.array([], pa.int64())
        if doubled.is_file():
            found = pq.read_table(doubled, columns=["row"], filters=[("shard", "=", part.shard)])
            self._doubled = found["row"].combine_chunks()
        wanted = {
            "scores": [*slots, "overall"],
            "selection": ["quality", "kept", "reason"],
            "flags": ["duplicate_of", "near_duplicate_of", "contaminated_by"],
            "cascade": ["overall"],
        }
        self._has: dict[str, list[str]] = {}
        self._rows: dict[str, Rows] = {}
        for kind, path in beside.items():
            there = pq.read_schema(path).names
            names = [n for n in wanted.get(kind, ["value"]) if n in there]
            self._has[kind] = names
            self._rows[kind] = Rows(path, ["row", *names] if "row" in there else names, "mira run CONFIG")
        self._methods, self._foreign = methods, foreign

    def blocks(self, src: int, place: int) -> Iterator[pa.Table]:
        """Yield the shard's rows of the table."""
        with pq.ParquetFile(self._part.path) as file:
            columns = ["row", "id", "n_tokens", "n_chars", "reason_rejected"]
            for batch in file.iter_batches(BLOCK, columns=columns, use_threads=False):
                yield self._block(batch, src, place)

    def _block(self, batch: pa.RecordBatch, src: int, place: int) -> pa.Table:
        n = len(batch)
        doubled = pc.is_in(batch["row"], value_set=self._doubled)
        rejected = pc.if_else(doubled, str(Rejection.DUPLICATE_ID), batch["reason_rejected"])
        valid = rejected.is_null()
        beside = {kind: self._take(kind, batch["row"], valid) for kind in self._rows}
        chosen = beside.get("selection", {})
        reason = pc.coalesce(rejected, chosen["reason"].cast(pa.string())) if chosen else rejected
        given = pc.fill_null(valid, True).to_numpy(zero_copy_only=False)
        columns: dict[str, Any] = {
            "src": np.full(n, src, np.uint16), "part": np.full(n, place, np.int32), "row": batch["row"],
            "id": batch["id"], "n_tokens": batch["n_tokens"], "n_chars": batch["n_chars"], "reason": reason,
            "tie": hash_ids(pc.fill_null(batch["id"], ""), self._seed, self._part.source),
            "state": _states(given, chosen), "quality": chosen.get("quality"), "flags": _flags(n, beside.get("flags")),
            "cascade": beside.get("cascade", {}).get("overall"), **beside.get("scores", {}),
            **{f"m{i}": beside.get(f"values.{m}", {}).get("value") for i, m in enumerate(self._methods)},
            **{f"s{i}": beside.get(f"foreign.{s}", {}).get("value") for i, s in enumerate(self._foreign)},
        }  # fmt: skip
        arrays = [
            pa.nulls(n, field.type) if columns.get(field.name) is None else _cast(columns[field.name], field.type)
            for field in self._schema
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _take(self, kind: str, rows: pa.Array, valid: pa.Array) -> dict[str, pa.Array]:
        """Return a sidecar's columns for the block; null where a row is not a valid record."""
        n = valid.true_count
        found = self._rows[kind].take(n) if n else None
        if n and (
            found is None or len(found) != n or ("row" in found.schema.names and not self._same(found, rows, valid))
        ):
            raise RunError(
                f"{self._part.source}/{self._part.shard}: {kind} does not match the index",
                "Run the stages again: mira run CONFIG",
            )
        if found is None:
            return {}
        if n == len(valid):
            return {name: found[name] for name in self._has[kind]}
        mask = valid.to_numpy(zero_copy_only=False)
        places = pa.array(np.cumsum(mask) - 1, pa.int64(), mask=~mask)
        return {name: found[name].take(places) for name in self._has[kind]}

    @staticmethod
    def _same(found: pa.RecordBatch, rows: pa.Array, valid: pa.Array) -> bool:
        if "row" not in found.schema.names:
            return True
        return bool(found["row"].cast(pa.int64()).equals(rows.filter(valid).cast(pa.int64())))


def _states(valid: Any, chosen: dict[str, pa.Array]) -> Any:
    states = np.full(len(valid), STATES.index("pending"), np.uint8)
    if chosen:
        unscored = pc.fill_null(pc.starts_with(chosen["reason"].cast(pa.string()), "unscored:"), False)
        states[:] = STATES.index("dropped")
        states[unscored.to_numpy(zero_copy_only=False)] = STATES.index("unscored")
        states[pc.fill_null(chosen["kept"], False).to_numpy(zero_copy_only=False)] = STATES.index("kept")
    states[~valid] = STATES.index("rejected")
    return states


def _flags(n: int, beside: dict[str, pa.Array] | None) -> Any:
    flags = np.zeros(n, np.uint8)
    for bit, name in enumerate(("duplicate_of", "near_duplicate_of", "contaminated_by")):
        if beside and name in beside:
            flags |= beside[name].is_valid().to_numpy(zero_copy_only=False).astype(np.uint8) << bit
    return flags


def _cast(values: Any, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array if array.type == kind else array.cast(kind)
