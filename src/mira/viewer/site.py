"""What the pages of one run share: the run, the templates, and how a page is rendered."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mira._version import __version__
from mira.report.render import environment
from mira.run_view import Run

__all__ = ["Site", "href", "site_of"]

STATIC = Path(__file__).parent / "static"


class Site:
    """The pages of a run.

    Args:
        run: The run, opened for reading.
        loaders: Where templates besides those of the viewer are.
        static: Folders of styles and scripts besides the viewer's; files lie under `/static/`.
        tabs: (address, title) of pages in the navigation besides the viewer's.
    """

    def __init__(
        self,
        run: Run,
        *,
        loaders: Sequence[BaseLoader] = (),
        static: Sequence[Path] = (),
        tabs: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.run = run
        self.tabs = tuple(tabs)
        self._static = (STATIC, *static)
        self._templates = _templates([PackageLoader("mira.viewer"), PackageLoader("mira.report"), *loaders])

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """Return a page.

        Args:
            request: The request, which templates see as `request`.
            template: Name of the template; pages extend "base.html.j2".
            status: HTTP status.
            **context: What the template reads. All text is escaped, and control characters are made visible.
        """
        page = self._templates.get_template(template).render(site=self, request=request, version=__version__, **context)
        return HTMLResponse(page.encode(), status)

    def static(self, name: str) -> bytes | None:
        """Return a style or script; None if the name is unknown."""
        if name == "style.css":
            return self._style()
        found = next((folder / name for folder in self._static if (folder / name).is_file()), None)
        return found.read_bytes() if found and found.parent.name == "static" and "/" not in name else None

    def _style(self) -> bytes:
        loader = self._templates.loader
        assert loader is not None
        shared = loader.get_source(self._templates, "style.css")[0].encode()
        return b"\n".join([shared, *(path.read_bytes() for folder in self._static for path in folder.glob("*.css"))])


def site_of(request: Request) -> Site:
    """Return the site that a request is for."""
    site: Site = request.app.state.site
    return site


def href(path: str, **query: Any) -> str:
    """Return an address of this server.

    Args:
        path: Its path; every part is quoted.
        **query: Parameters; those that are None, False or "" are left out.
    """
    given = {name: value for name, value in query.items() if value not in (None, False, "")}
    parts = urlencode({name: "1" if value is True else value for name, value in given.items()}, doseq=True)
    return f"/{quote(path.lstrip('/'))}{'?' if parts else ''}{parts}"


def _templates(loaders: Sequence[BaseLoader]) -> Environment:
    found = environment(ChoiceLoader(loaders))
    found.globals["href"] = href
    return found
