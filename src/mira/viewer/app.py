"""The application: routes, the guard, and what happens when a page cannot be shown.

More pages are routes of Starlette's, given to `application`; their endpoints are plain functions `page(request)`. They
get the site with `site_of(request)` and return `site.render(request, "mine.html.j2", ...)`. Their template extends
"base.html.j2" and lies in a package that `Site(run, loaders=[PackageLoader("mira.mine")])` names.
"""

import mimetypes
from collections.abc import Collection, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mira.errors import MiraError
from mira.viewer import disagreements, lengths, overview, record, reliability, rubrics, search, selection
from mira.viewer.guard import Guard
from mira.viewer.review import figures
from mira.viewer.site import Site, site_of

__all__ = ["application"]

_PAGES = (overview, selection, search, record, reliability, disagreements, lengths, rubrics, figures)


def application(
    site: Site,
    token: str,
    routes: Sequence[BaseRoute] = (),
    hosts: Collection[str] = (),
    pages: Sequence[BaseRoute] | None = None,
) -> Starlette:
    """Return the application.

    Args:
        site: The run and its templates.
        token: What opens it, in the first address: `/?token=...`.
        routes: More pages, before those of the viewer.
        hosts: Names of the server besides those of this machine; "*" for any.
        pages: Instead of the viewer's own pages; a blind review has none of these.
    """
    app = Starlette(
        routes=[*routes, *(_viewer() if pages is None else pages), Route("/static/{name}", _static)],
        middleware=[Middleware(Guard, token=token, hosts=hosts)],
        exception_handlers={MiraError: _refused, HTTPException: _missing},
    )
    app.state.site = site
    return app


def _viewer() -> list[BaseRoute]:
    return [route for page in _PAGES for route in page.ROUTES]


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    content = site_of(request).static(name)
    if content is None:
        raise HTTPException(404, f"There is no file {name}.")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, media_type=kind, headers={"cache-control": "no-cache"})


def _refused(request: Request, error: Exception) -> Response:
    return site_of(request).render(request, "refused.html.j2", 409, problem=str(error))


def _missing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return site_of(request).render(request, "refused.html.j2", error.status_code, problem=error.detail)
