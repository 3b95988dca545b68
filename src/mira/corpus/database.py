"""SQL over the index, in bounded memory."""

import glob
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
def connect(run: RunFolder) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that spills into the run folder."""
    spill = run.path / "index" / ".spill"
    spill.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(spill),
        "preserve_insertion_order": False,
    }
    con = duckdb.connect(":memory:", config=options)
    try:
        yield con
    finally:
        con.close()


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
