"""Where judges differ most: the teacher and the student, two methods of selection, two scorers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.errors import InputError, MiraError
from mira.report.behind import rationale_of, rationales
from mira.rubric.slots import slot_name
from mira.viewer.filters import rows_at
from mira.viewer.records import Table
from mira.viewer.reliability import evidence_of
from mira.viewer.search import shown
from mira.viewer.site import Site, site_of

__all__ = ["ROUTES", "Apart", "between", "orders_of", "teacher_and_student"]

_MOST = 200


@dataclass(frozen=True, slots=True)
class Apart:
    """A labelled record, and the slot on which the student is furthest from the teacher.

    Attributes:
        source: Its source.
        id: Its id.
        teacher: Mean of the teacher's scores over the source's unmasked slots.
        student: Mean of the student's over the same slots.
        slot: The slot.
        slot_teacher: The teacher's score there.
        slot_student: The student's.
        rationale: The teacher's words on that slot.
    """

    source: str
    id: str
    teacher: float
    student: float
    slot: str
    slot_teacher: float
    slot_student: float
    rationale: str


def teacher_and_student(site: Site, source: str = "", slot: str = "", most: int = _MOST) -> list[Apart]:
    """Return labelled records by how far the student is from the teacher.

    Args:
        site: The site.
        source: Only this source.
        slot: Compare this slot; by default the mean over the source's unmasked slots.
        most: How many.
    """
    masked = _masked(site)
    found: list[tuple[float, str, Apart]] = []
    for group in site.groups:
        try:
            evidence = evidence_of(site, group)
        except (MiraError, OSError):  # not labelled or trained yet
            continue
        of_group: list[tuple[float, str, Apart]] = []
        for own in evidence.sources:
            if source not in ("", own.source) or not len(own.ids):
                continue
            slots = [slot_name(j) for j in range(own.teacher.shape[1])]
            counts = np.array([(own.source, s) not in masked if not slot else s == slot for s in slots])
            if not counts.any():
                continue
            both = np.isfinite(own.teacher) & np.isfinite(own.student) & counts
            n = np.maximum(both.sum(axis=1), 1)
            teacher = np.where(both, own.teacher, 0).sum(axis=1) / n
            student = np.where(both, own.student, 0).sum(axis=1) / n
            apart = np.where(both.any(axis=1), np.abs(teacher - student), -1)
            worst = np.where(both, np.abs(np.where(both, own.teacher - own.student, 0)), -1).argmax(axis=1)
            for i in np.argsort(-apart, kind="stable")[:most]:
                if apart[i] >= 0:
                    j = int(worst[i])
                    one = Apart(
                        own.source, own.ids[i], float(teacher[i]), float(student[i]),
                        slots[j], float(own.teacher[i, j]), float(own.student[i, j]), "",
                    )  # fmt: skip
                    of_group.append((float(apart[i]), group.name, one))
        found += of_group
    found.sort(key=lambda entry: (-entry[0], entry[2].source, entry[2].id))
    return _with_rationales(site, found[:most])


def _with_rationales(site: Site, found: list[tuple[float, str, Apart]]) -> list[Apart]:
    said: dict[Any, Any] = {}
    for group in {group for _, group, _ in found}:
        said |= rationales(site.folder, group, {(a.source, a.id) for _, g, a in found if g == group})
    return [
        Apart(
            a.source, a.id, a.teacher, a.student, a.slot, a.slot_teacher, a.slot_student,
            rationale_of(said.get((a.source, a.id), ()), a.slot),
        )
        for _, _, a in found
    ]  # fmt: skip


def _masked(site: Site) -> set[tuple[str, str]]:
    if not site.folder.reliability.is_file():
        return set()
    table = pq.read_table(site.folder.reliability, columns=["source", "slot", "masked"])
    return {(row["source"], row["slot"]) for row in table.filter(table["masked"]).to_pylist()}


def orders_of(table: Table) -> dict[str, str]:
    """Return what records can be ordered by -> the column: methods, and scorers' numbers."""
    methods = {f"method {name}": f"m{i}" for i, name in enumerate(table.methods)}
    numbers = [c for c in ("overall", "cascade", *table.slots) if c in table.columns]
    scorers = {f"scorer {name}": f"s{i}" for i, name in enumerate(table.foreign)}
    return methods | scorers | {f"score {name}": name for name in numbers}


def between(table: Table, one: str, other: str, source: str = "", most: int = _MOST) -> list[dict[str, Any]]:
    """Return records by how far their places in two orders of their source are apart.

    A place is the share of the source's records below, 0 to 1.

    Args:
        table: The records.
        one: An order; see `orders_of`.
        other: Another.
        source: Only this source.
        most: How many.

    Raises:
        InputError: There is no such order.
    """
    orders = orders_of(table)
    for name in (one, other):
        if name not in orders:
            raise InputError(f"there is no order '{name}'", f"Orders are: {', '.join(orders)}")
    a, b = orders[one], orders[other]
    only, given = ("AND src = ?", [table.sources.index(source)]) if source else ("", [])
    rows = table.query(
        f"""SELECT place, one, other FROM (
            SELECT rowid AS place, percent_rank() OVER (PARTITION BY src ORDER BY "{a}") AS one,
                percent_rank() OVER (PARTITION BY src ORDER BY "{b}") AS other
            FROM records WHERE "{a}" IS NOT NULL AND "{b}" IS NOT NULL {only}
        ) ORDER BY abs(one - other) DESC, place LIMIT ?""",
        [*given, most],
    )
    whole = rows_at(table, [place for place, _, _ in rows])
    return [
        shown(row, table) | {"one": x, "other": y, "a": row[a], "b": row[b]}
        for row, (_, x, y) in zip(whole, rows, strict=True)
    ]


def _page(request: Request) -> Response:
    site, query = site_of(request), request.query_params
    table = site.records.table()
    if table is None:
        return site.render(request, "making.html.j2", progress=site.records.progress)
    source, slot = query.get("source", ""), query.get("slot", "")
    if source and source not in table.sources:
        raise InputError(f"there is no source '{source}'", f"Sources are: {', '.join(table.sources)}")
    orders = orders_of(table)
    one, other = query.get("a", ""), query.get("b", "")
    compared = bool(one and other)
    rows: Any
    if compared:
        rows = site.keep(f"apart {one}/{other}/{source}", table, lambda: between(table, one, other, source))
    else:
        rows = teacher_and_student(site, source, slot)
    return site.render(
        request, "disagreements.html.j2", rows=rows, compared=compared, orders=list(orders), a=one, b=other,
        source=source, slot=slot, table=table, n_methods=len(table.methods),
    )  # fmt: skip


ROUTES = [Route("/disagreements", _page)]
