"""What people's judgements say, as a page of `mira view`: the report's section."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.report.review import review_view
from mira.viewer.site import site_of

__all__ = ["ROUTES"]


def _people(request: Request) -> Response:
    site = site_of(request)
    return site.render(request, "people.html.j2", page={"review": review_view(site.folder)})


ROUTES = [Route("/people", _people)]
