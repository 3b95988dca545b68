"""Source x slot: the heat map, and behind each cell the teacher's scores against the student's, record by record."""

from dataclasses import dataclass

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.errors import MiraError
from mira.grouping.groups import Group
from mira.pipeline.manifest import read_manifest
from mira.reliability.evidence import GroupEvidence
from mira.reliability.stage import load_evidence
from mira.report.behind import rationale_of, rationales
from mira.report.heatmap import Cell, SlotRow, heat_maps
from mira.rubric.slots import slot_index
from mira.run_folder.content import state_of
from mira.viewer.site import Site, site_of

__all__ = ["ROUTES", "Point", "evidence_of", "points"]

_MOST = 2_000  # points of a scatter


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled record of a cell.

    Attributes:
        id: Its id.
        teacher: The teacher's score.
        student: The prediction of a student that has not seen the record.
        rationale: The teacher's words.
    """

    id: str
    teacher: float
    student: float
    rationale: str

    @property
    def apart(self) -> float:
        """How far the student is from the teacher."""
        return abs(self.student - self.teacher)


def evidence_of(site: Site, group: Group) -> GroupEvidence:
    """Return a group's labels beside the predictions that reliability rests on.

    Raises:
        RunError: They are missing, or do not belong together.
    """
    student = site.folder.student(group.name)
    files = [site.folder.labels(group.name), student / "out_of_fold.parquet", student / "held_out.parquet"]
    state = [state_of(path) for path in files]
    return site.keep(f"evidence {group.name}", state, lambda: load_evidence(site.folder, group))


def points(site: Site, group: Group, source: str, slot: str) -> list[Point]:
    """Return the labelled records of a cell, those that the student is furthest from first."""
    found = next((e for e in evidence_of(site, group).sources if e.source == source), None)
    at = slot_index(slot)
    if found is None or at >= found.teacher.shape[1]:
        return []
    teacher, student = found.teacher[:, at], found.student[:, at]
    known = np.flatnonzero(np.isfinite(teacher) & np.isfinite(student))
    known = known[np.argsort(-np.abs(teacher - student)[known], kind="stable")][:_MOST]
    said = rationales(site.folder, group.name, {(source, found.ids[i]) for i in known})
    return [
        Point(
            found.ids[i], float(teacher[i]), float(student[i]), rationale_of(said.get((source, found.ids[i]), ()), slot)
        )
        for i in known
    ]


def _maps(request: Request) -> Response:
    site = site_of(request)
    maps = heat_maps(site.folder, site.groups, read_manifest(site.folder))
    return site.render(request, "heat_maps.html.j2", maps=maps)


def _cell(request: Request) -> Response:
    site, query = site_of(request), request.query_params
    source, slot = query.get("source", ""), query.get("slot", "")
    group = next((g for g in site.groups if source in g.sources), None)
    found = _find(site, source, slot)
    if group is None or found is None:
        raise HTTPException(404, f"There is no cell {source!r}, {slot!r} in this run.")
    row, cell = found
    behind: list[Point] = []
    problem = ""
    try:
        behind = points(site, group, source, slot)
    except (MiraError, OSError) as error:  # the figures stand without them
        problem = str(error)
    return site.render(request, "cell.html.j2", cell=cell, slot=row, group=group.name, points=behind, problem=problem)


def _find(site: Site, source: str, slot: str) -> tuple[SlotRow, Cell] | None:
    maps = heat_maps(site.folder, site.groups, read_manifest(site.folder))
    return next(
        ((row, cell) for m in maps for row in m.rows if row.slot == slot for cell in row.cells
         if cell and cell.source == source), None,
    )  # fmt: skip


ROUTES = [Route("/reliability", _maps), Route("/cell", _cell)]
