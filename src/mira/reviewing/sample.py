"""The blind sample: drawn by strata from the selection, with the probability by which each record came into it.

Strata are of a source: its kept and its dropped records, the quarter of either that is nearest to the threshold apart
from the rest, and records that the teacher has judged apart from those that it has not. In a stratum, the records of
smallest hash are drawn, so the sample depends on the seed and the selection, never on the order of files. The order in
which records are shown follows from another hash, so it says nothing of a record's stratum.

`labels/human/sample.parquet` holds the sample. Once judgements exist it stays as it is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.config.settings import ReviewSettings
from mira.corpus import database
from mira.errors import RunError
from mira.reviewing.journal import has_judgements
from mira.reviewing.strata import Cell, Stratum, allocate, stratify, weights
from mira.run_folder.files import hash_file, read_json, write_parquet
from mira.run_folder.paths import RunFolder

__all__ = ["Card", "Sample", "draw", "load_sample", "register_selection", "sample_of", "sample_path"]

_ABOUT = b"mira.review"
_EDGE = 0.25  # of a source's kept records, and of its dropped ones, are near the threshold
_SCHEMA = pa.schema(
    [
        ("place", pa.int32()),
        ("source", pa.string()),
        ("id", pa.string()),
        ("group", pa.string()),
        ("n_tokens", pa.int32()),
        ("stratum", pa.string()),
        ("stratum_records", pa.int64()),
        ("inclusion", pa.float64()),
        ("kept", pa.bool_()),
        ("quality", pa.float64()),
    ]
)
_EDGES = f"""
    CREATE OR REPLACE TEMP TABLE edges AS
    SELECT quantile_disc(quality, {_EDGE}) FILTER (kept) AS low,
        quantile_disc(quality, {1 - _EDGE}) FILTER (NOT kept) AS high
    FROM selection
"""
_CELLS = """
    CREATE OR REPLACE TEMP VIEW cells AS
    SELECT s.id, s.n_tokens, s.kept, s.quality, l.id IS NOT NULL AS labelled,
        CASE WHEN s.quality IS NULL THEN 'unranked'
            WHEN (s.kept AND s.quality <= low) OR (NOT s.kept AND s.quality >= high) THEN 'near'
            ELSE 'far' END AS band
    FROM selection s CROSS JOIN edges LEFT JOIN labelled l ON l.id = s.id
"""


@dataclass(frozen=True, slots=True)
class Card:
    """One record of the sample.

    Attributes:
        place: Its place in the order in which records are shown, from 1.
        source: Its source.
        id: Its id.
        group: Its source's group; "" without groups.
        n_tokens: Its tokens.
        stratum: Name of its stratum.
        stratum_records: Records of the stratum in the corpus.
        inclusion: Probability by which it came into the sample, in (0, 1].
        kept: What the selection did with it when the sample was drawn.
        quality: Its quality then, or None.
    """

    place: int
    source: str
    id: str
    group: str
    n_tokens: int
    stratum: str
    stratum_records: int
    inclusion: float
    kept: bool
    quality: float | None

    @property
    def key(self) -> tuple[str, str]:
        """Source and id."""
        return self.source, self.id


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample, in the order in which its records are shown.

    Attributes:
        cards: Its records.
        about: What it was drawn from: seed, settings, selection, and [records, tokens] of each source.
    """

    cards: tuple[Card, ...]
    about: Mapping[str, Any]


def sample_path(run: RunFolder) -> Path:
    """Return the file of the sample."""
    return run.human / "sample.parquet"


def sample_of(settings: ReviewSettings, seed: int, run: RunFolder) -> tuple[Sample, bool]:
    """Return the run's sample; draw it if it is missing, or if it is outdated and nothing was judged yet.

    Returns:
        The sample, and whether it is of the present settings and selection.

    Raises:
        RunError: Nothing is selected yet, or the sample's file is damaged.
    """
    known = load_sample(run)
    if known is not None:
        current = known.about == _about(settings, seed, run)
        if current or has_judgements(run):
            return known, current
    return draw(settings, seed, run), True


def load_sample(run: RunFolder) -> Sample | None:
    """Read the sample; None if it is missing.

    Raises:
        RunError: The file is damaged.
    """
    path = sample_path(run)
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        about = orjson.loads((table.schema.metadata or {})[_ABOUT])
        cards = tuple(Card(**{**row, "group": row["group"] or ""}) for row in table.to_pylist())
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as a sample of records to review: {error}",
            "Restore the file from a copy: judgements are weighted by what it holds.",
        ) from None
    return Sample(cards, about)


def draw(settings: ReviewSettings, seed: int, run: RunFolder) -> Sample:
    """Draw the sample and write it.

    Args:
        settings: Its size, and where it comes from.
        seed: Part of the hashes.
        run: A run folder with a finished selection.

    Raises:
        RunError: Nothing is selected yet.
    """
    about = _about(settings, seed, run)
    labelled = _labelled(run)
    sources = list(about["population"])
    with database.connect(run) as con:
        cells = {cell: n for source in sources for cell, n in _cells(con, run, source, labelled)}
        stratum_of = stratify(cells, settings.sample)
        drawn = _allocation(settings, cells, stratum_of)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in drawn}
        for source in sources:
            _register(con, run, source, labelled)
            for cell in (cell for cell in cells if cell.source == source):
                found[stratum_of[cell]] += _smallest(con, cell, drawn[stratum_of[cell]], seed)
    sizes = Counter[str]()
    for cell, n in cells.items():
        sizes[stratum_of[cell]] += n
    rows = [
        {**row, "stratum": name, "stratum_records": sizes[name], "inclusion": drawn[name] / sizes[name]}
        for name, of_stratum in found.items()
        for row in sorted(of_stratum, key=lambda row: (row["hash"], row["source"], row["id"]))[: drawn[name]]
    ]
    write_parquet(sample_path(run), _table(rows, _groups(run), seed, about))
    sample = load_sample(run)
    assert sample is not None
    return sample


def register_selection(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str) -> None:
    """Make the view `selection` of a source: id, n_tokens, quality, kept, reason.

    Raises:
        RunError: The source was not selected from.
    """
    paths = [str(path) for path in sorted(run.selection(source).glob("*.parquet"))]
    if not paths:
        raise RunError(
            f"{run.selection(source)}: there is no selection of source '{source}'", "Run: mira select CONFIG"
        )
    con.execute(
        "CREATE OR REPLACE TEMP VIEW selection AS SELECT id, n_tokens, quality, kept, reason::VARCHAR AS reason "
        f"FROM read_parquet([{database.listed(paths)}])"
    )


def _about(settings: ReviewSettings, seed: int, run: RunFolder) -> dict[str, Any]:
    if not run.thresholds.is_file():
        raise RunError(f"{run.thresholds}: nothing is selected yet", "Run: mira run CONFIG")
    sources = read_json(run.thresholds)["sources"]
    labels = [[path.stem, hash_file(path)] for path in sorted((run.path / "labels").glob("*.parquet"))]
    return {
        "seed": seed,
        "sample": settings.sample,
        "near": settings.near,
        "labelled": settings.labelled,
        "selection": hash_file(run.thresholds),
        "labels": labels,
        "population": {name: [entry["records_in"], entry["tokens_in"]] for name, entry in sorted(sources.items())},
    }


def _labelled(run: RunFolder) -> pa.Table:
    """Return source and id of the records that the teacher has scored."""
    paths = sorted((run.path / "labels").glob("*.parquet"))
    columns = ["source", "id", "reason_unscored"]
    tables = [pq.read_table(path, columns=columns, filters=[("replicate", "=", 0)]) for path in paths]
    if not tables:
        return pa.table({"source": pa.array([], pa.string()), "id": pa.array([], pa.string())})
    table = pa.concat_tables(tables, promote_options="default")
    return table.filter(pc.is_null(table["reason_unscored"])).select(["source", "id"])


def _register(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str, labelled: pa.Table) -> None:
    register_selection(con, run, source)
    con.register("labelled", labelled.filter(pc.equal(labelled["source"], source)))
    con.execute(_EDGES)
    con.execute(_CELLS)


def _cells(
    con: duckdb.DuckDBPyConnection, run: RunFolder, source: str, labelled: pa.Table
) -> Iterator[tuple[Cell, int]]:
    _register(con, run, source, labelled)
    rows = con.execute("SELECT kept, band, labelled, count(*) FROM cells GROUP BY ALL ORDER BY ALL").fetchall()
    for kept, band, judged, n in rows:
        yield Cell(source, kept, band, judged), n


def _allocation(settings: ReviewSettings, cells: Mapping[Cell, int], stratum_of: Mapping[Cell, str]) -> dict[str, int]:
    parts = weights(cells, near=settings.near, labelled=settings.labelled)
    strata: dict[str, Stratum] = {}
    for cell, n in cells.items():
        name = stratum_of[cell]
        before = strata.get(name, Stratum(name, 0, 0.0))
        strata[name] = Stratum(name, before.records + n, before.weight + parts[cell])
    return allocate(strata.values(), settings.sample)


def _smallest(con: duckdb.DuckDBPyConnection, cell: Cell, n: int, seed: int) -> list[dict[str, Any]]:
    """Return the n records of a cell whose hashes are smallest."""
    rows = con.execute(
        "SELECT md5(concat(?::VARCHAR, id)) AS hash, id, n_tokens, kept, quality FROM cells "
        "WHERE kept = ? AND band = ? AND labelled = ? ORDER BY hash, id LIMIT ?",
        [f"{seed}/review/{cell.source}/", cell.kept, cell.band, cell.labelled, n],
    ).fetchall()
    names = ("hash", "id", "n_tokens", "kept", "quality")
    return [{"source": cell.source, **dict(zip(names, row, strict=True))} for row in rows]


def _groups(run: RunFolder) -> dict[str, str]:
    groups: Sequence[Mapping[str, Any]] = read_json(run.groups)["groups"] if run.groups.is_file() else []
    return {source: group["name"] for group in groups for source in group["sources"]}


def _table(rows: list[dict[str, Any]], groups: Mapping[str, str], seed: int, about: Mapping[str, Any]) -> pa.Table:
    def order(row: Mapping[str, Any]) -> tuple[str, str, str]:
        name = f"{seed}/review-order/{row['source']}/{row['id']}"
        return md5(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest(), row["source"], row["id"]

    shown = [
        {**{name: row.get(name) for name in _SCHEMA.names}, "place": place, "group": groups.get(row["source"])}
        for place, row in enumerate(sorted(rows, key=order), 1)
    ]
    return pa.Table.from_pylist(shown, schema=_SCHEMA.with_metadata({_ABOUT: orjson.dumps(about)}))
