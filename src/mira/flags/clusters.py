"""Duplicates: the signatures of all shards joined, in bounded memory, whatever the shards and their order.

Exact duplicates are records with one text hash; all are duplicates of the one with the smallest tie. Among what is
left, records that share a band are candidates: each is compared with the one of the smallest tie in its band, so that a
band that a million records share costs a million comparisons and not their square. Pairs whose MinHashes agree
closely enough are edges, and every record of a connected component is a near duplicate of its record with the smallest
tie; so two near duplicates of one record may be less alike than the threshold. All of it is ours.

The joins run in DuckDB, which spills to disk; edges are held in memory, 32 bytes each.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira.corpus import Shard, database
from mira.flags.minhash import MinHash, Sketch, similarity
from mira.flags.signatures import band_columns, signature_path
from mira.flags.words import Hashes
from mira.run_folder.paths import RunFolder

__all__ = ["Duplicates", "components", "find_duplicates"]

_PAIRS = 1 << 14
_FLAGGED = pa.schema([("row", pa.int64()), ("exact", pa.string()), ("near", pa.string())])
_NODE = "(place::UBIGINT << 40) | row::UBIGINT"
_COPIES = f"""
    CREATE TEMP TABLE copies AS
    WITH doubled AS (SELECT high, low FROM entries GROUP BY high, low HAVING count(*) > 1),
    texts AS MATERIALIZED (
        SELECT {_NODE} AS node, tie, high, low FROM entries SEMI JOIN doubled USING (high, low)
    ), firsts AS (SELECT high, low, arg_min(node, tie) AS chosen FROM texts GROUP BY high, low)
    SELECT node, chosen FROM texts JOIN firsts USING (high, low) WHERE node <> chosen
"""
_CANDIDATES = f"""
    INSERT INTO candidates
    WITH bands AS (SELECT place, row, tie, {{band}} AS band FROM entries WHERE {{band}} IS NOT NULL),
    doubled AS (SELECT band FROM bands GROUP BY band HAVING count(*) > 1),
    texts AS MATERIALIZED (
        SELECT {_NODE} AS node, tie, band FROM bands SEMI JOIN doubled USING (band)
        WHERE NOT EXISTS (SELECT 1 FROM copies c WHERE c.node = {_NODE})
    ), centres AS (SELECT band, arg_min(node, tie) AS centre, min(tie) AS centre_tie FROM texts GROUP BY band)
    SELECT node, tie, centre, centre_tie FROM texts JOIN centres USING (band) WHERE node <> centre
"""
_PAIRED = f"""
    WITH pairs AS (SELECT DISTINCT * FROM candidates), sketches AS (SELECT {_NODE} AS node, minhash FROM entries)
    SELECT p.*, a.minhash AS one, b.minhash AS other
    FROM pairs p JOIN sketches a ON a.node = p.node JOIN sketches b ON b.node = p.centre
"""
_FOUND = f"""
    CREATE TEMP TABLE found AS
    WITH flagged AS (
        SELECT coalesce(c.node, n.node) AS node, c.chosen AS exact, n.chosen AS near
        FROM copies c FULL JOIN (
            SELECT node, chosen FROM near
            UNION ALL SELECT c.node, n.chosen FROM copies c JOIN near n ON c.chosen = n.node
        ) n ON c.node = n.node
    ), names AS (
        SELECT {_NODE} AS node, p.source || '/' || e.id AS name
        FROM entries e JOIN sources p USING (place)
        WHERE {_NODE} IN (SELECT exact FROM flagged UNION SELECT near FROM flagged)
    )
    SELECT (f.node >> 40)::BIGINT AS place, (f.node & 1099511627775)::BIGINT AS row, x.name AS exact, y.name AS near
    FROM flagged f LEFT JOIN names x ON x.node = f.exact LEFT JOIN names y ON y.node = f.near
    ORDER BY place, row
"""


class Duplicates:
    """Duplicates of every shard."""

    def __init__(self, con: duckdb.DuckDBPyConnection, places: Mapping[tuple[str, str], int]) -> None:
        self._con, self._places = con, places

    def of(self, shard: Shard) -> pa.Table:
        """Return row (int64), exact and near (string "source/id" or null) of a shard's flagged records, by row."""
        place = self._places[shard.source, shard.name]
        rows = self._con.execute("SELECT row, exact, near FROM found WHERE place = ? ORDER BY row", [place]).fetchall()
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, _FLAGGED, strict=True)], schema=_FLAGGED)


@contextmanager
def find_duplicates(
    run: RunFolder, found: Sequence[Shard], *, exact: bool, minhash: MinHash | None, jaccard: float
) -> Iterator[Duplicates]:
    """Find duplicates among the signatures of some shards.

    Args:
        run: The run folder.
        found: All shards; their signatures are there.
        exact: Whether to find records of the same text.
        minhash: How the signatures were sketched; None: near duplicates are not looked for.
        jaccard: Least estimated similarity of near duplicates, 0 to 1.
    """
    paths: list[tuple[str, Path]] = [(s.name, signature_path(run, s)) for s in found]
    with database.connect(run) as con:
        database.register_index(con, paths)
        con.execute("CREATE TEMP TABLE copies (node UBIGINT, chosen UBIGINT)" if not exact else _COPIES)
        near = _near(con, minhash, jaccard) if minhash else _no_edges()
        con.register("near_arrow", near)
        con.execute("CREATE TEMP TABLE near AS SELECT * FROM near_arrow")
        con.register("sources", pa.table({"place": list(range(len(found))), "source": [s.source for s in found]}))
        con.execute(_FOUND)
        yield Duplicates(con, {(s.source, s.name): i for i, s in enumerate(found)})


def _no_edges() -> pa.Table:
    return pa.table({"node": pa.array([], pa.uint64()), "chosen": pa.array([], pa.uint64())})


def _near(con: duckdb.DuckDBPyConnection, minhash: MinHash, jaccard: float) -> pa.Table:
    con.execute("CREATE TEMP TABLE candidates (node UBIGINT, tie UBIGINT, centre UBIGINT, centre_tie UBIGINT)")
    for band in band_columns(minhash.n_bands):
        con.execute(_CANDIDATES.format(band=band))
    edges = [np.zeros((0, 4), np.uint64)]
    con.execute(_PAIRED)
    while rows := con.fetchmany(_PAIRS):
        *ends, one, other = zip(*rows, strict=True)
        same = similarity(_sketches(one, minhash), _sketches(other, minhash)) >= jaccard
        edges.append(np.array(ends, np.uint64).T[same])
    con.execute("DROP TABLE candidates")
    nodes, chosen = components(np.concatenate(edges))
    return pa.table({"node": nodes, "chosen": chosen})


def _sketches(values: Sequence[bytes], minhash: MinHash) -> Sketch:
    return np.frombuffer(b"".join(values), "<u2").reshape(-1, minhash.permutations)


def components(edges: npt.NDArray[np.uint64]) -> tuple[Hashes, Hashes]:
    """Find connected components.

    Args:
        edges: (n, 4) uint64: a node and its tie, another node and its tie.

    Returns:
        Every node but those of the smallest tie in their component, ascending; and of each, that node.
    """
    from scipy import sparse  # noqa: PLC0415 - slow to import

    nodes, first, places = np.unique(edges[:, [0, 2]], return_index=True, return_inverse=True)
    ties = edges[:, [1, 3]].ravel()[first]
    ends = places.reshape(-1, 2)
    graph = sparse.coo_matrix((np.ones(len(ends), np.bool_), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    order = np.lexsort((nodes, ties, labels))
    _, starts = np.unique(labels[order], return_index=True)
    chosen = nodes[order[starts]][labels]
    others = nodes != chosen
    return nodes[others], chosen[others]
