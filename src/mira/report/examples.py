"""The records at both ends of each source and at its cutoff, with the student's scores and the teacher's rationales."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira import corpus
from mira.config.settings import CorpusSettings, SelectSettings
from mira.corpus.record import Part, Record
from mira.report.behind import clip
from mira.report.overview import SourceRow
from mira.report.quality import selection_view, sidecars
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder

__all__ = ["EXCERPT", "Example", "Excerpt", "Near", "SlotScore", "SourceExamples", "examples"]

EXCERPT = 1200  # characters of a record that are shown

_NEAR = 3  # records on each side of a cutoff

_KINDS = (  # name, SQL condition, SQL order, how many
    ("best kept", "kept", "quality DESC", 2),
    ("worst dropped", "NOT kept", "quality ASC", 2),
    ("lowest kept", "kept", "quality ASC", 1),
    ("highest dropped", "NOT kept", "quality DESC", 1),
)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The start of one part of a record, and how many characters follow it."""

    label: str
    text: str
    more: int


@dataclass(frozen=True, slots=True)
class SlotScore:
    """One slot of an example: scores in [0, 10] or None."""

    slot: str
    name: str
    student: float | None
    teacher: float | None
    rationale: str
    masked: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One record.

    Attributes:
        kind: Why it is shown: "best kept", "lowest kept", ...
        id: Its id.
        kept: What became of it.
        quality: Its quality, or None.
        rank: Its place by quality in its source, from 1.
        n_ranked: Records of the source with a quality.
        n_tokens: Its tokens.
        excerpts: The start of its text.
        slots: Its scores.
        labelled: The teacher judged it.
        overall: The teacher's overall, 0..100, or None.
        recommendation: The teacher's verdict, or "".
        brief: The teacher's sentence, or "".
    """

    kind: str
    id: str
    kept: bool
    quality: float
    rank: int
    n_ranked: int
    n_tokens: int
    excerpts: tuple[Excerpt, ...]
    slots: tuple[SlotScore, ...]
    labelled: bool
    overall: float | None
    recommendation: str
    brief: str

    @property
    def is_long(self) -> bool:
        """Whether the excerpts need folding: more than about five lines."""
        return sum(1 + len(e.text) // 60 + e.text.count("\n") for e in self.excerpts) > 5


@dataclass(frozen=True, slots=True)
class Near:
    """A record at the cutoff of its source, with the start of its text in one line."""

    id: str
    kept: bool
    quality: float
    n_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class SourceExamples:
    """The examples of one source, and the records nearest to its cutoff: the lowest kept, then the highest dropped."""

    source: SourceRow
    kept: tuple[Example, ...]
    dropped: tuple[Example, ...]
    near: tuple[Near, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pick:
    kind: str
    id: str
    quality: float
    kept: bool
    n_tokens: int
    rank: int = 0
    n_ranked: int = 0


def examples(
    con: duckdb.DuckDBPyConnection,
    settings: CorpusSettings,
    select: SelectSettings,
    run: RunFolder,
    sources: Sequence[SourceRow],
) -> tuple[SourceExamples, ...]:
    """Return examples of every source whose records have a quality.

    Of each kind, records that the teacher has labelled come first, since their rationales can be shown; where none of
    that kind is labelled, the others are taken.

    Raises:
        RunError: A source was not selected from, or is not indexed.
    """
    masked = _masked(run)
    found = []
    for source in sources:
        labels = _labels(run, source)
        selection_view(con, run, source.name)
        picks = _ranked(con, _picks(con, labels))
        if picks:
            found.append(_of_source(con, settings, select, run, source, picks, _near(con), labels, masked))
    return tuple(found)


def _of_source(
    con: duckdb.DuckDBPyConnection,
    settings: CorpusSettings,
    select: SelectSettings,
    run: RunFolder,
    source: SourceRow,
    picks: Sequence[_Pick],
    near: Sequence[_Pick],
    labels: pa.Table | None,
    masked: frozenset[tuple[str, str]],
) -> SourceExamples:
    ids = [p.id for p in picks]
    records = {r.id: r for r in corpus.fetch(settings, run, source.name, {*ids, *(p.id for p in near)})}
    judged = {row["id"]: row for row in _rows(labels, ids)} if labels else {}
    scored = _scores(con, select, run, source.name, ids)
    names = _slot_names(run, source.group, scored)
    built = [
        _example(source.name, pick, records[pick.id], names, scored.get(pick.id, {}), judged.get(pick.id), masked)
        for pick in picks
    ]
    return SourceExamples(
        source,
        kept=tuple(sorted((e for e in built if e.kept), key=lambda e: e.rank)),
        dropped=tuple(sorted((e for e in built if not e.kept), key=lambda e: -e.rank)),
        near=tuple(
            Near(p.id, p.kept, p.quality, p.n_tokens, clip(" ".join(part.text for part in records[p.id].parts)))
            for p in near
        ),
    )


def _near(con: duckdb.DuckDBPyConnection) -> list[_Pick]:
    """Return the records of the selection that are nearest to the cutoff, kept ones first."""
    return [
        _Pick("", *row)
        for condition, order in (("kept", "ASC"), ("NOT kept", "DESC"))
        for row in con.execute(
            f"SELECT id, quality, kept, n_tokens FROM selection WHERE quality IS NOT NULL AND {condition} "
            f"ORDER BY quality {order}, id LIMIT ?",
            [_NEAR],
        ).fetchall()
    ]


def _picks(con: duckdb.DuckDBPyConnection, labels: pa.Table | None) -> list[_Pick]:
    con.register("labelled", pa.table({"id": labels["id"] if labels else pa.array([], pa.string())}))
    con.execute("CREATE OR REPLACE TEMP TABLE judged AS SELECT * FROM selection SEMI JOIN labelled USING (id)")
    con.unregister("labelled")
    picks: dict[str, _Pick] = {}
    for kind, condition, order, n in _KINDS:
        for records in ("judged", "selection"):
            rows = con.execute(
                f"SELECT id, quality, kept, n_tokens FROM {records} "
                f"WHERE quality IS NOT NULL AND {condition} ORDER BY {order}, id LIMIT ?",
                [n],
            ).fetchall()
            if rows:
                for row in rows:
                    picks.setdefault(row[0], _Pick(kind, *row))
                break
    return list(picks.values())


def _ranked(con: duckdb.DuckDBPyConnection, picks: Sequence[_Pick]) -> list[_Pick]:
    """Add each record's place: 1 + the records of higher quality."""
    if not picks:
        return []
    counts = ", ".join("count(*) FILTER (quality > ?)" for _ in picks)
    rows = con.execute(f"SELECT count(quality), {counts} FROM selection", [p.quality for p in picks]).fetchall()
    n_ranked, *above = rows[0]
    return [
        _Pick(p.kind, p.id, p.quality, p.kept, p.n_tokens, int(higher) + 1, int(n_ranked))
        for p, higher in zip(picks, above, strict=True)
    ]


def _labels(run: RunFolder, source: SourceRow) -> pa.Table | None:
    """Return a source's first judgements that hold a score; None if it has none."""
    path = run.labels(source.group)
    if not source.group or not path.is_file():
        return None
    table = pq.read_table(path, filters=[("source", "=", source.name), ("replicate", "=", 0)])
    table = table.filter(pc.is_null(table["reason_unscored"]))
    return table if len(table) else None


def _rows(table: pa.Table, ids: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(pc.is_in(table["id"], value_set=pa.array(ids, pa.string()))).to_pylist()
    return rows


def _scores(
    con: duckdb.DuckDBPyConnection, select: SelectSettings, run: RunFolder, source: str, ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return id -> the row of the sidecar that the selection ranks by; {} where nothing was scored."""
    folder = run.cascade(source) if select.scores == "cascade" else run.scores(source)
    if not any(folder.glob("*.parquet")):
        return {}
    con.register("wanted", pa.table({"id": pa.array(ids, pa.string())}))
    files = sidecars(folder)
    found = con.execute(f"SELECT * FROM read_parquet({files}) SEMI JOIN wanted USING (id)")
    columns = [column[0] for column in found.description or ()]
    rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    con.unregister("wanted")
    return {row["id"]: row for row in rows}


def _slot_names(run: RunFolder, group: str, scored: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return slot -> name: from the rubric, or nameless if missing."""
    if group and run.rubric(group).is_file():
        return {a.slot: a.name for a in Rubric.load(run.rubric(group)).anchors}
    columns = {column for row in scored.values() for column in row}
    return dict.fromkeys(slot_columns(columns), "")


def _masked(run: RunFolder) -> frozenset[tuple[str, str]]:
    if not run.reliability.is_file():
        return frozenset()
    table = pq.read_table(run.reliability, columns=["source", "slot", "masked"])
    return frozenset((r["source"], r["slot"]) for r in table.filter(table["masked"]).to_pylist())


def _example(
    source: str,
    pick: _Pick,
    record: Record,
    names: Mapping[str, str],
    scores: Mapping[str, Any],
    label: Mapping[str, Any] | None,
    masked: frozenset[tuple[str, str]],
) -> Example:
    judged = label or {}
    rationales = judged.get("rationales") or [""] * len(names)
    slots = tuple(
        SlotScore(
            slot, name, _finite(scores.get(slot)), _finite(judged.get(slot)), rationale or "", (source, slot) in masked
        )
        for (slot, name), rationale in zip(names.items(), rationales, strict=False)
    )
    return Example(
        kind=pick.kind,
        id=pick.id,
        kept=pick.kept,
        quality=pick.quality,
        rank=pick.rank,
        n_ranked=pick.n_ranked,
        n_tokens=pick.n_tokens,
        excerpts=_excerpts(record.parts),
        slots=slots,
        labelled=label is not None,
        overall=_finite(judged.get("overall")),
        recommendation=judged.get("recommendation") or "",
        brief=judged.get("brief") or "",
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _excerpts(parts: Sequence[Part]) -> tuple[Excerpt, ...]:
    """Return the start of a record: EXCERPT characters over its first parts; later parts count as what follows."""
    found: list[Excerpt] = []
    left = EXCERPT
    for i, part in enumerate(parts):
        text = part.text[:left]
        left -= len(text)
        more = len(part.text) - len(text)
        if not left:
            more += sum(len(p.text) for p in parts[i + 1 :])
            return (*found, Excerpt(part.label, text, more))
        found.append(Excerpt(part.label, text, more))
    return tuple(found)
