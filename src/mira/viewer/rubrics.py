"""The rubrics: anchors, calibration references, and the judgment points that made each slot."""

from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.pipeline.manifest import read_manifest
from mira.report.discovered import discovered
from mira.rubric.rubric import Rubric
from mira.viewer.site import Site, site_of

__all__ = ["ROUTES", "points_of"]

_PAGE = 100


def points_of(site: Site, group: str, slot: str) -> list[dict[str, Any]]:
    """Return the judgment points of a slot's cluster, the highest score first; none without free judgments."""
    path = site.folder.points(group)
    if not path.is_file():
        return []
    table = pq.read_table(path, filters=[("slot", "=", slot)])
    order = pc.sort_indices(table, sort_keys=[("score", "descending"), ("record", "ascending")])
    rows: list[dict[str, Any]] = table.take(order).to_pylist()
    return rows


def _rubrics(request: Request) -> Response:
    site = site_of(request)
    groups = [group for group in site.groups if site.folder.rubric(group.name).is_file()]
    return site.render(
        request,
        "rubrics.html.j2",
        rubrics=[Rubric.load(site.folder.rubric(group.name), group.name) for group in groups],
        discovered=discovered(site.folder, groups, read_manifest(site.folder)),
        has_points={group.name: site.folder.points(group.name).is_file() for group in groups},
    )


def _slot(request: Request) -> Response:
    site, query = site_of(request), request.query_params
    group, slot = query.get("group", ""), query.get("slot", "")
    if group not in [g.name for g in site.groups]:
        raise HTTPException(404, f"There is no group {group!r} in this run.")
    points = points_of(site, group, slot)
    page = int(query["page"]) if query.get("page", "").isdecimal() else 1
    known = discovered(site.folder, [g for g in site.groups if g.name == group], read_manifest(site.folder))
    return site.render(
        request,
        "slot.html.j2",
        group=group,
        slot=slot,
        points=points[(page - 1) * _PAGE : page * _PAGE],
        n=len(points),
        page=page,
        pages=max(-(-len(points) // _PAGE), 1),
        given=group in known and known[group].given,
    )


ROUTES = [Route("/rubric", _rubrics), Route("/rubric/slot", _slot)]
