"""Which copy of a text stands where duplicates are dropped: decided by what is selected, not by the flags alone.

Flags say which records are copies of each other. One of each set stands, and the others do not compete. It is, in this
order (ours):

1. one that may be kept: it has a value, so it is neither contaminated (where that drops records) nor unscored, and it
   is not longer than what its source may keep at most (`source_max`);
2. the best by the method's value; where the value is only an order (random, raw, the distance to a median, a masked
   source), no copy is better than another;
3. the one that the flags name, which has the smallest hash of source and id, and then by the tie hash of the seed.

So no text is lost because of a copy that cannot be kept. The join runs in DuckDB, which spills to disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from mira.corpus import Shard, database
from mira.flags import Dropped, flags_path
from mira.run_folder.paths import RunFolder

__all__ = ["Standing", "find_standing"]

_FLAGGED = """
    CREATE TEMP TABLE flagged AS
    SELECT place, file_row_number AS nth, row, duplicate_of AS exact, near_duplicate_of AS near,
        p.source || '/' || id AS name
    FROM read_parquet([{flags}], filename=true, file_row_number=true) f JOIN places p ON f.filename = p.flags
"""
_MEMBERS = """
    CREATE TEMP TABLE members AS
    WITH copies AS (SELECT * FROM flagged WHERE exact IS NOT NULL OR near IS NOT NULL),
    named AS (SELECT exact AS name FROM copies UNION SELECT near FROM copies)
    SELECT place, nth, row, exact IS NOT NULL AS copied, coalesce(exact, name) AS text,
        coalesce(near, exact, name) AS cluster, exact IS NULL AND near IS NULL AS named
    FROM flagged WHERE exact IS NOT NULL OR near IS NOT NULL OR name IN (SELECT name FROM named WHERE name IS NOT NULL)
"""
_DROPPED = """
    CREATE TEMP TABLE dropped AS
    WITH ranked AS (
        SELECT m.*, first_value(text) OVER best AS standing, row_number() OVER best AS nth_best
        FROM members m JOIN (
            SELECT place, file_row_number AS nth, tie, n_tokens,
                value IS NOT NULL AND n_tokens <= coalesce(p.cap, n_tokens) AS may,
                CASE WHEN {judges} AND reason IS NULL THEN value END AS quality
            FROM read_parquet([{values}], filename=true, file_row_number=true) v JOIN places p ON v.filename = p.values
        ) USING (place, nth)
        WINDOW best AS (PARTITION BY cluster ORDER BY may DESC, quality DESC NULLS LAST, named DESC, tie, place, nth)
    )
    SELECT place, row, CASE WHEN copied OR text = standing THEN 'duplicate' ELSE 'near_duplicate' END AS reason
    FROM ranked WHERE nth_best > 1 ORDER BY place, row
"""


class Standing:
    """The records of every shard that do not stand."""

    def __init__(self, con: duckdb.DuckDBPyConnection, places: Mapping[tuple[str, str], int]) -> None:
        self._con, self._places = con, places

    def dropped(self, shard: Shard) -> Dropped:
        """Return the records of a shard that another copy stands for, by row."""
        place = self._places[shard.source, shard.name]
        found = self._con.execute("SELECT row, reason FROM dropped WHERE place = ? ORDER BY row", [place]).fetchall()
        rows = np.array([row for row, _ in found], np.int64)
        return Dropped(rows, pa.array([why for _, why in found], pa.string()))


@contextmanager
def find_standing(
    run: RunFolder, values: Sequence[tuple[Shard, Path]], caps: Mapping[str, int], *, judges: bool
) -> Iterator[Standing]:
    """Decide which copy of each text stands.

    Args:
        run: The run folder; all shards are flagged.
        values: Every shard, and the file of its values, of which no duplicate is taken away yet.
        caps: Source -> the most tokens that it may keep; sources without a cap are missing.
        judges: Whether a larger value is a better record.
    """
    table = {
        "place": list(range(len(values))),
        "source": [shard.source for shard, _ in values],
        "flags": [str(flags_path(run, shard)) for shard, _ in values],
        "values": [str(path) for _, path in values],
        "cap": pa.array([caps.get(shard.source) for shard, _ in values], pa.int64()),
    }
    with database.connect(run) as con:
        con.register("places_arrow", pa.table(table))
        con.execute("CREATE TEMP TABLE places AS SELECT * FROM places_arrow")
        con.execute(_FLAGGED.format(flags=database.listed(table["flags"])))
        con.execute(_MEMBERS)
        con.execute("DROP TABLE flagged")
        con.execute(_DROPPED.format(values=database.listed(table["values"]), judges=str(judges)))
        yield Standing(con, {(shard.source, shard.name): at for at, (shard, _) in enumerate(values)})
