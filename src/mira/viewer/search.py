"""Search and filter: records by what the sidecars say of them, and by their text."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mira.viewer import filters
from mira.viewer.records import FLAGS, STATES, Table
from mira.viewer.site import href, site_of
from mira.viewer.text_search import Search, searches

__all__ = ["ROUTES", "shown"]


def shown(row: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return a row of the table as pages show it: names instead of numbers, and the record's address."""
    source, shard = table.shards[row["part"]]
    flags = [name for bit, name in enumerate(FLAGS) if row["flags"] >> bit & 1]
    address = href("/record", source=source, shard=shard, row=str(row["row"]))
    found = {**row, "source": source, "shard": shard, "state": STATES[row["state"]], "flags": flags, "href": address}
    found |= {f"value:{method}": row[f"m{i}"] for i, method in enumerate(table.methods)}
    return found | {f"score:{score}": row[f"s{i}"] for i, score in enumerate(table.foreign)}


def _columns(table: Table) -> list[str]:
    """Return the columns that the page shows after source, id, state and reason."""
    return [
        name for name in filters.columns_of(table) if name not in ("source", "id", "row", "state", "reason", "flags")
    ]


def _records(request: Request) -> Response:
    site = site_of(request)
    table = site.records.table()
    if table is None:
        return site.render(request, "making.html.j2", progress=site.records.progress)
    wanted = filters.wanted_in(request.query_params, table)
    search = None
    if wanted.text:
        search = searches(site).start(wanted, table)
        rows = [row | {"excerpt": hit.excerpt} for row, hit in search.rows(table)]
    else:
        rows = filters.page(wanted, table)
    reasons = site.keep("reasons", table, lambda: _reasons(table))
    return site.render(
        request,
        "found.html.j2" if request.query_params.get("part") else "records.html.j2",
        wanted=wanted,
        counted=site.keep(f"count {filters.where(wanted, table)}", table, lambda: filters.count(wanted, table)),
        rows=[shown(row, table) for row in rows],
        columns=_columns(table),
        table=table,
        reasons=reasons,
        states=STATES,
        flags=FLAGS,
        search=search,
        page_size=filters.PAGE,
        ranged=[name for name in filters.columns_of(table) if name not in ("source", "id", "state", "reason", "flags")],
    )


def _reasons(table: Table) -> list[str]:
    rows = table.query("SELECT DISTINCT reason FROM records WHERE reason IS NOT NULL ORDER BY 1 LIMIT 100")
    return [reason for (reason,) in rows]


def _search_state(request: Request) -> Response:
    found = searches(site_of(request)).find(request.path_params["search"])
    return JSONResponse(_state(found)) if found else JSONResponse({"state": "gone"}, 404)


def _stop(request: Request) -> Response:
    found = searches(site_of(request)).find(request.path_params["search"])
    if found:
        found.stop()
    return JSONResponse(_state(found)) if found else JSONResponse({"state": "gone"}, 404)


def _state(search: Search) -> dict[str, Any]:
    return {"state": search.state, "said": search.said, "share": search.share, "hits": len(search.hits)}


ROUTES = [
    Route("/records", _records),
    Route("/records/search/{search}", _search_state, methods=["GET"]),
    Route("/records/search/{search}/stop", _stop, methods=["POST"]),
]
