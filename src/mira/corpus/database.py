"""SQL over the index, in bounded memory."""

import glob
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from mira.errors import RunError
from mira.run_folder.paths import RunFolder
from mira.run_folder.working_copy import fetch

__all__ = ["connect", "listed", "register_index", "register_source"]

_MEMORY = "1GB"


@contextmanager
def connect(run: RunFolder, *, alone: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that spills into the run folder. What is made in it must be TEMP.

    Args:
        run: The run folder.
        alone: The caller changes the database's settings: it gets a database that nobody else uses, now or later.
    """
    spill = run.path / "index" / ".spill"
    spill.parent.mkdir(parents=True, exist_ok=True)
    con = _database(os.fspath(spill)) if alone else _cursor(os.fspath(spill))
    try:
        yield con
    finally:
        con.close()
        if spill.exists():
            _forget()  # it removes what it spilled when it closes


_open: dict[tuple[int, str], duckdb.DuckDBPyConnection] = {}
"""This process' database of the run in use, by process and spill folder: to make one takes 40 ms, a cursor nothing."""
_lock = threading.Lock()


def _cursor(spill: str) -> duckdb.DuckDBPyConnection:
    key = (os.getpid(), spill)
    with _lock:
        if key not in _open:
            _open.clear()
            _open[key] = _database(spill)
        return _open[key].cursor()


def _forget() -> None:
    """Let the database go; cursors in use keep it open until they close."""
    with _lock:
        _open.clear()


def _database(spill: str) -> duckdb.DuckDBPyConnection:
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": spill,
        "preserve_insertion_order": False,
        "enable_external_file_cache": False,  # files are replaced while a database is open
    }
    return duckdb.connect(":memory:", config=options)


def listed(paths: Sequence[Path | str]) -> str:
    """Return paths as they stand in the list of `read_parquet`; of a run at a URL, the files are fetched."""
    fetch(paths)
    return ", ".join("'" + glob.escape(str(path)).replace("'", "''") + "'" for path in paths)


def register_index(con: duckdb.DuckDBPyConnection, found: Sequence[tuple[str, Path]]) -> None:
    """Make the view `entries`: the index of some shards, with each row's shard and the shard's place in `found`."""
    paths = [str(path) for _, path in found]
    places = pa.table({"path": paths, "shard": [n for n, _ in found], "place": list(range(len(found)))})
    con.register("places_arrow", places)
    con.execute("CREATE OR REPLACE TEMP TABLE places AS SELECT * FROM places_arrow")
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW entries AS SELECT e.* EXCLUDE (filename), p.shard, p.place
        FROM read_parquet([{listed(paths)}], filename=true) e JOIN places p ON e.filename = p.path"""
    )


def register_source(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str) -> None:
    """Make the views `entries`, `duplicates` and `valid` of a source that is indexed.

    Raises:
        RunError: It is not indexed yet.
    """
    folder = run.index(source)
    duplicates = folder / "duplicates.parquet"
    paths = sorted(p for p in folder.glob("*.parquet") if p.name != duplicates.name)
    if not duplicates.exists() or not paths:
        raise RunError(f"source '{source}' is not indexed yet", "Run the index stage first: mira run does.")
    register_index(con, [(p.stem, p) for p in paths])
    con.execute(f"CREATE OR REPLACE TEMP VIEW duplicates AS SELECT * FROM read_parquet({listed([str(duplicates)])})")
    con.execute(
        """CREATE OR REPLACE TEMP VIEW valid AS SELECT * FROM entries e WHERE reason_rejected IS NULL
        AND NOT EXISTS (SELECT 1 FROM duplicates d WHERE d.shard = e.shard AND d.row = e.row)"""
    )
