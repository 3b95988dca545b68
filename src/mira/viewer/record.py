"""One record: its text, its scores and what decided on it; or one line that is not a record, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.corpus import Record, Rejected, Shard
from mira.corpus.index import check_shard
from mira.corpus.parse import Parser
from mira.errors import MiraError
from mira.flags import flags_path
from mira.report.behind import rationale_of
from mira.report.examples import SlotScore
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns
from mira.selection.explain.explain import explain_row
from mira.selection.explain.results import Explanation
from mira.viewer.records import STATES, Table
from mira.viewer.search import shown
from mira.viewer.selection import Edge, edges
from mira.viewer.site import Site, site_of

__all__ = ["ROUTES", "Slot", "Text", "texts", "the_text"]

PAGE = 20_000  # characters of a page of text
_NEAR = 5
_RAW = 2_000  # bytes of a rejected line that are shown


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of a part of a record: its label, and its text."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Slot(SlotScore):
    """A slot of a record: the student's score, the teacher's with its rationale, and whether it counts."""

    note: str


def the_text(site: Site, shard: Shard, row: int) -> tuple[Record | Rejected | None, str]:
    """Read a row of a shard from its source: what it is, and the start of the line as it stands there.

    Raises:
        RunError: The source has changed since it was indexed.
    """
    corpus = site.config.corpus
    check_shard(corpus, site.folder, shard)
    shard.check_unchanged()
    parser = Parser(corpus.source(shard.source), corpus.max_record_bytes)
    for at, raw in parser.raw(shard):
        if at >= row:
            found = parser.one(shard, at, raw) if at == row else None
            line = raw[:_RAW].decode("utf-8", "replace") if isinstance(raw, bytes) else ""
            return found, line
    return None, ""


def texts(record: Record, page: int) -> tuple[list[Text], int]:
    """Return a page of a record's text, and how many pages it has.

    Args:
        record: The record.
        page: From 1.
    """
    at, found = 0, []
    start, stop = (page - 1) * PAGE, page * PAGE
    for part in record.parts:
        piece = part.text[max(start - at, 0) : max(stop - at, 0)]
        if piece or (not part.text and start <= at < stop):
            found.append(Text(part.label, piece))
        at += len(part.text)
    return found, max(-(-at // PAGE), 1)


def _row_of(site: Site, table: Table, query: Mapping[str, str]) -> dict[str, Any]:
    source, shard, row, id_ = (query.get(name, "") for name in ("source", "shard", "row", "id"))
    if source not in table.sources:
        raise HTTPException(404, f"There is no source {source!r} in this run.")
    if shard:
        if (source, shard) not in table.shards or not row.isdecimal():
            raise HTTPException(404, f"There is no shard {shard!r} of {source!r}, or the row is not a number.")
        found = table.rows_of(
            "SELECT * FROM records WHERE part = ? AND row = ?", [table.shards.index((source, shard)), int(row[:18])]
        )
    else:
        found = table.rows_of(
            "SELECT * FROM records WHERE id = ? AND src = ? ORDER BY state = ?, rowid LIMIT 1",
            [id_, table.sources.index(source), STATES.index("rejected")],
        )
    if not found:
        raise HTTPException(404, f"{source} has no such record: {id_ or row}")
    return found[0]


def _explained(site: Site, shard: Shard | None, row: Mapping[str, Any]) -> tuple[Explanation | None, str]:
    if shard is None or row["id"] is None or row["state"] in ("rejected", "pending"):
        return None, ""
    try:
        rehearsal = site.rehearsal()
        return explain_row(rehearsal.inputs, rehearsal.plan, shard, row["row"], row["id"]), ""
    except MiraError as problem:
        return None, str(problem)


def _judgements(site: Site, source: str, id_: str | None) -> list[dict[str, Any]]:
    """Return the teacher's judgements of a record, the first replicate first."""
    path = site.folder.labels(site.group_of(source))
    if id_ is None or not path.is_file():
        return []
    rows: list[dict[str, Any]] = pq.read_table(path, filters=[("id", "=", id_), ("source", "=", source)]).to_pylist()
    return sorted(rows, key=lambda row: row["replicate"])


def _slots(
    site: Site, row: Mapping[str, Any], told: Explanation | None, judged: Sequence[dict[str, Any]]
) -> list[Slot]:
    group = site.group_of(row["source"])
    path = site.folder.rubric(group)
    names = {a.slot: a.name for a in Rubric.load(path, group).anchors} if group and path.is_file() else {}
    first = next((j for j in judged if j["reason_unscored"] is None), {})
    rationales = first.get("rationales") or []
    by_slot = {slot.slot: slot for slot in told.slots} if told else {}
    masks = {} if told else _masks(site, row["source"])
    found = []
    for slot in slot_columns(row):
        if names and slot not in names:
            continue
        of = by_slot.get(slot)
        found.append(
            Slot(
                slot, names.get(slot, ""), row[slot], first.get(slot), rationale_of(rationales, slot),
                of.masked if of else slot in masks, of.note if of else masks.get(slot, ""),
            )
        )  # fmt: skip
    rest = [slot for slot in told.slots if slot.slot not in {f.slot for f in found}] if told else []
    return [*found, *(Slot(s.slot, s.name or "", s.score, None, "", s.masked, s.note) for s in rest)]


def _masks(site: Site, source: str) -> dict[str, str]:
    if not site.folder.reliability.is_file():
        return {}
    table = pq.read_table(site.folder.reliability, columns=["source", "slot", "masked", "why"])
    rows = table.filter(pc.and_(table["masked"], pc.equal(table["source"], source))).to_pylist()
    return {row["slot"]: f"masked: {row['why']}" for row in rows}


def _flags(site: Site, shard: Shard | None, row: int) -> dict[str, Any]:
    path = flags_path(site.folder, shard) if shard else None
    if path is None or not path.is_file():
        return {}
    rows = pq.read_table(path, filters=[("row", "=", row)]).to_pylist()
    return {name: value for name, value in rows[0].items() if name not in ("row", "id") and value} if rows else {}


def _neighbours(site: Site, table: Table, told: Explanation | None) -> list[Edge]:
    if told is None or told.scope is None:
        return []
    rehearsal = site.rehearsal()
    return edges(table, rehearsal.near(rehearsal.as_written, told.scope, _NEAR))


def _record(request: Request) -> Response:
    site, query = site_of(request), request.query_params
    table = site.records.table()
    if table is None:
        return site.render(request, "making.html.j2", progress=site.records.progress)
    row = shown(_row_of(site, table, query), table)
    shard = site.shard(row["source"], row["shard"])
    page = int(query["page"]) if query.get("page", "1").isdecimal() and query.get("page") else 1
    record, line, problem = None, "", ""
    try:
        if shard is not None:
            record, line = the_text(site, shard, row["row"])
    except (MiraError, OSError) as error:
        problem = str(error)
    shown_texts, pages = texts(record, max(page, 1)) if isinstance(record, Record) else ([], 1)
    told, why_not = _explained(site, shard, row)
    judged = _judgements(site, row["source"], row["id"])
    return site.render(
        request,
        "record.html.j2",
        row=row,
        where=shard.where(row["row"]) if shard else "",
        texts=shown_texts,
        page=page,
        pages=pages,
        rejected=record if isinstance(record, Rejected) else None,
        duplicate=row["reason"] == "duplicate_id",
        line="" if shown_texts else line,
        problem=problem,
        told=told,
        why_not=why_not,
        slots=_slots(site, row, told, judged),
        judged=judged,
        flags=_flags(site, shard, row["row"]),
        near=_neighbours(site, table, told),
        table=table,
    )


ROUTES = [Route("/record", _record)]
