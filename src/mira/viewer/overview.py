"""The first page: what has run, what it cost, and what became of every record."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.pipeline.manifest import read_manifest
from mira.run_folder.files import read_json
from mira.run_folder.lock import holder_of
from mira.viewer.site import site_of

__all__ = ["ROUTES"]


def _overview(request: Request) -> Response:
    site = site_of(request)
    folder = site.run.folder
    chosen = read_json(folder.thresholds) if folder.thresholds.is_file() else None
    return site.render(
        request,
        "overview.html.j2",
        manifest=read_manifest(folder),
        holder=holder_of(folder.lock),
        chosen=chosen,
    )


ROUTES = [Route("/", _overview)]
