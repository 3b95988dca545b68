"""What the current selection does with the records of the sample, and with every budget."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.config.settings import SelectSettings
from mira.corpus import database
from mira.reviewing.sample import Card, register_selection
from mira.rubric.slots import slot_columns
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder

__all__ = ["Chosen", "budget_shares", "chosen", "quality_at", "student_scores", "teacher_labels"]

Key = tuple[str, str]

_RANKED = """
    SELECT source, id, quality, n_tokens,
        sum(n_tokens) OVER (ORDER BY quality DESC, source, id ROWS UNBOUNDED PRECEDING) AS tokens
    FROM ({sources}) WHERE quality IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A record in the current selection."""

    n_tokens: int
    kept: bool
    quality: float | None


def chosen(run: RunFolder, cards: Sequence[Card]) -> dict[Key, Chosen]:
    """Return what the selection does with the records of a sample; those that are no longer there are missing."""
    found: dict[Key, Chosen] = {}
    sources = read_json(run.thresholds)["sources"]
    with database.connect(run) as con:
        for source in sorted({card.source for card in cards} & sources.keys()):
            register_selection(con, run, source)
            con.register("wanted", pa.table({"id": [card.id for card in cards if card.source == source]}))
            query = "SELECT id, n_tokens, kept, quality FROM selection SEMI JOIN wanted USING (id)"
            found |= {(source, row[0]): Chosen(*row[1:]) for row in con.execute(query).fetchall()}
    return found


def budget_shares(run: RunFolder, keys: Iterable[Key]) -> dict[Key, float] | str:
    """Return the budget, as a share of the corpus's tokens, from which on each record is kept.

    A budget is split over scopes in proportion to their tokens. So it is the share of the scope's tokens in records
    that rank at or before this one.

    Args:
        run: The run folder.
        keys: The records. Those without a quality are left out.

    Returns:
        The shares; or why this cannot be known from quality alone.
    """
    thresholds = read_json(run.thresholds)
    wanted = set(keys)
    shares: dict[Key, float] = {}
    with database.connect(run) as con:
        for scope, entry in thresholds["scopes"].items():
            query = _scope_query(run, entry["sources"])
            if con.execute(f"SELECT count(quality) FROM ({query})").fetchall()[0][0] == 0:
                return f"the selection by {thresholds['method']} does not rank scope {scope} by quality"
            if _out_of_order(con, query):
                return (
                    f"the selection of scope {scope} does not follow from quality alone: floors, caps, length or noise"
                )
            con.register("wanted", pa.table({"source": [s for s, _ in wanted], "id": [i for _, i in wanted]}))
            ranked = _RANKED.format(sources=query)
            rows = con.execute(
                f"SELECT source, id, tokens FROM ({ranked}) SEMI JOIN wanted USING (source, id)"
            ).fetchall()
            shares |= {(source, id): int(tokens) / entry["tokens_in"] for source, id, tokens in rows}
    return shares


def quality_at(run: RunFolder, share: float) -> dict[str, float]:
    """Return the quality at the threshold of each scope under a budget, which is a share of the corpus's tokens."""
    found: dict[str, float] = {}
    with database.connect(run) as con:
        for scope, entry in read_json(run.thresholds)["scopes"].items():
            ranked = _RANKED.format(sources=_scope_query(run, entry["sources"]))
            row = con.execute(f"SELECT min(quality) FROM ({ranked}) WHERE tokens <= ?", [share * entry["tokens_in"]])
            if (value := row.fetchall()[0][0]) is not None:
                found[scope] = float(value)
    return found


def _scope_query(run: RunFolder, sources: Sequence[str]) -> str:
    parts = []
    for source in sources:
        paths = [str(path) for path in sorted(run.selection(source).glob("*.parquet"))]
        name = source.replace("'", "''")
        columns = "id, n_tokens, quality, kept, reason::VARCHAR AS reason"
        parts.append(f"SELECT '{name}' AS source, {columns} FROM read_parquet([{database.listed(paths)}])")
    return " UNION ALL ".join(parts)


def _out_of_order(con: Any, query: str) -> bool:
    """Return whether a record was dropped that ranks before a kept one by quality."""
    row = con.execute(
        "SELECT min(quality) FILTER (kept), max(quality) FILTER (NOT kept AND reason NOT LIKE 'flagged:%'), "
        f"count(*) FILTER (reason IN ('floor', 'cap', 'does_not_fit')) FROM ({query})"
    ).fetchall()[0]
    return bool(row[2]) or (row[0] is not None and row[1] is not None and row[1] > row[0])


def teacher_labels(run: RunFolder, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    """Return the teacher's first judgement of records: their rows in the labels."""
    wanted = set(keys)
    ids = pa.array(sorted({id for _, id in wanted}), pa.string())
    found: dict[Key, dict[str, Any]] = {}
    for path in sorted((run.path / "labels").glob("*.parquet")):
        names = pq.read_schema(path).names
        columns = ["source", "id", "overall", "recommendation", *slot_columns(names)]
        filters = (pc.field("replicate") == 0) & pc.field("id").isin(ids)
        rows = pq.read_table(path, columns=columns, filters=filters).to_pylist()
        found |= {key: row for row in rows if (key := (row["source"], row["id"])) in wanted}
    return found


def student_scores(select: SelectSettings, run: RunFolder, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    """Return the student's scores of records: their rows in the sidecars that the selection ranks by."""
    by_source: dict[str, list[str]] = {}
    for source, id in keys:
        by_source.setdefault(source, []).append(id)
    found: dict[Key, dict[str, Any]] = {}
    with database.connect(run) as con:
        for source, ids in sorted(by_source.items()):
            folder = run.cascade(source) if select.scores == "cascade" else run.scores(source)
            paths = [str(path) for path in sorted(folder.glob("*.parquet"))]
            if not paths:
                continue
            con.register("wanted", pa.table({"id": ids}))
            rows = con.execute(f"SELECT * FROM read_parquet([{database.listed(paths)}]) SEMI JOIN wanted USING (id)")
            columns = [column[0] for column in rows.description or ()]
            for row in rows.fetchall():
                value = dict(zip(columns, row, strict=True))
                found[source, value["id"]] = {slot: value[slot] for slot in slot_columns(columns)}
    return found
