"""What the pages of one run share: the run, its records, the templates, and how a page is rendered."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mira._version import __version__
from mira.config.settings import Config
from mira.corpus import Shard, shards
from mira.errors import MiraError
from mira.grouping.groups import Group, load_groups
from mira.progress import Quiet
from mira.report.render import environment
from mira.run_folder.content import state_of
from mira.run_folder.paths import RunFolder
from mira.run_folder.scratch import scratch_folder
from mira.run_view import Run
from mira.selection.rehearsal import Rehearsal, written_inputs
from mira.selection.stage import selection_inputs
from mira.viewer.records import Records

__all__ = ["EXPORT", "Site", "href", "site_of"]

EXPORT = "mira.export"
"""Key of a request's scope: the page is for a static copy."""

STATIC = Path(__file__).parent / "static"
_TABS = (
    ("/", "Overview"),
    ("/selection", "Selection"),
    ("/records", "Records"),
    ("/reliability", "Reliability"),
    ("/disagreements", "Disagreements"),
    ("/lengths", "Lengths"),
    ("/rubric", "Rubric"),
    ("/people", "People"),
)
_KEPT = 128  # things that were made and may be asked for again
Made = TypeVar("Made")


@dataclass
class _Made:
    """Something that was made from a state of the run."""

    known: bool = False
    state: Any = None
    value: Any = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class Site:
    """The pages of a run.

    Args:
        run: The run, opened for reading.
        scratch: Folder for the table of records; by default one of its own, which goes with the site.
        loaders: Where templates besides those of the viewer are.
        static: Folders of styles and scripts besides the viewer's; files lie under `/static/`.
        tabs: (address, title) of pages in the navigation after the viewer's.

    Raises:
        ConfigError: The settings of the run are not known.
    """

    def __init__(
        self,
        run: Run,
        scratch: Path | None = None,
        *,
        loaders: Sequence[BaseLoader] = (),
        static: Sequence[Path] = (),
        tabs: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.run = run
        self.tabs = (*_TABS, *tabs)
        config, stack = run.config, ExitStack()
        scratch = scratch or stack.enter_context(scratch_folder())
        self.records = Records(run.folder, [s.name for s in config.sources], config.seed, scratch)
        stack.callback(self.records.close)  # before its folder goes
        self.close = weakref.finalize(self, stack.close)
        self._static = (STATIC, *static)
        self._templates = _templates([PackageLoader("mira.viewer"), PackageLoader("mira.report"), *loaders])
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.run.config

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.run.folder

    @property
    def groups(self) -> list[Group]:
        """The groups; none before they are made."""
        return load_groups(self.folder) if self.folder.groups.is_file() else []

    def group_of(self, source: str) -> str:
        """Return a source's group; "" without groups."""
        return next((group.name for group in self.groups if source in group.sources), "")

    def shards(self) -> dict[str, list[Shard]]:
        """Return the shards of every source."""
        state = state_of(self.folder.path / "index" / ".fingerprints.json")
        return self.keep("shards", state, lambda: shards(self.config.corpus))

    def shard(self, source: str, name: str) -> Shard | None:
        """Return a shard by its name; None if it is not known."""
        return next((shard for shard in self.shards().get(source, ()) if shard.name == name), None)

    def rehearsal(self) -> Rehearsal:
        """Return the selection, ready to be repeated under other budgets.

        Raises:
            RunError: Nothing is selected yet, or settings or files have changed since.
        """
        state = [state_of(self.folder.thresholds), state_of(self.folder.path / "values" / "selection.json")]
        inputs = selection_inputs(self.config, self.folder, Quiet())
        return self.keep("rehearsal", state, lambda: Rehearsal(written_inputs(inputs), self.shards()))

    def warm(self) -> None:
        """Start reading what the first pages show, in a thread of its own."""

        def read() -> None:
            for part in (self.records.table, self.rehearsal):
                with suppress(MiraError, OSError):  # the page says what is wrong
                    part()

        threading.Thread(target=read, daemon=True).start()

    def keep(self, name: str, state: Any, make: Callable[[], Made]) -> Made:
        """Return what was made under this name, made again if the state that it was made from has changed."""
        with self._lock:
            entry = self._made.setdefault(name, _Made())
            self._made.move_to_end(name)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        with entry.lock:  # others wait for this one alone
            if not entry.known or entry.state != state:
                entry.known, entry.state, entry.value = True, state, make()
            made: Made = entry.value
        return made

    def render(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """Return a page.

        Args:
            request: The request, which templates see as `request`.
            template: Name of the template; pages extend "base.html.j2". `static` is true in a static copy, which
                has neither forms nor scripts.
            status: HTTP status.
            **context: What the template reads. All text is escaped, and control characters are made visible.
        """
        context |= {"site": self, "request": request, "version": __version__, "static": EXPORT in request.scope}
        page = self._templates.get_template(template).render(**context)
        return HTMLResponse(page.encode(), status)

    def static(self, name: str) -> bytes | None:
        """Return a style or script; None if the name is unknown."""
        if name == "style.css":
            return self._style()
        found = next((folder / name for folder in self._static if (folder / name).is_file()), None)
        return found.read_bytes() if found and found.parent in self._static else None

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
        **query: Parameters; those that are None, False, "" or empty are left out. A sequence becomes several.
    """
    given = {name: value for name, value in query.items() if value not in (None, False, "", (), [])}
    parts = urlencode({name: "1" if value is True else value for name, value in given.items()}, doseq=True)
    return f"/{quote(path.lstrip('/'))}{'?' if parts else ''}{parts}"


def _templates(loaders: Sequence[BaseLoader]) -> Environment:
    found = environment(ChoiceLoader(loaders))
    found.globals["href"] = href
    return found
