"""The first page: what has run, what it cost, and what became of every record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.llm.journal.reader import JournalReader
from mira.pipeline.manifest import read_manifest
from mira.pipeline.registry import STAGES
from mira.report.overview import Overview, made_for_demo, overview
from mira.report.spent import spent_rows
from mira.run_folder.content import state_of
from mira.run_folder.files import read_json
from mira.run_folder.lock import holder_of
from mira.run_folder.paths import RunFolder
from mira.viewer.site import Site, site_of

__all__ = ["ROUTES", "Step", "overview_of", "steps"]

_SHARDED = {"score": "scores", "select": "selection", "flag": "flags", "cascade": "cascade"}


@dataclass(frozen=True, slots=True)
class Step:
    """A stage of the run.

    Attributes:
        name: The stage.
        state: done, running, or "" if it has not begun.
        seconds: How long it took.
        detail: How far it is, or what it wrote.
    """

    name: str
    state: str
    seconds: float | None
    detail: str


def overview_of(site: Site) -> Overview | None:
    """Return what the run's selection kept, as the report shows it; None if nothing is selected yet."""
    folder, config = site.folder, site.config
    if not folder.thresholds.is_file():
        return None
    group_of = {source: group.name for group in site.groups for source in group.sources}

    def make() -> Overview:
        return overview(
            config.corpus, folder, read_json(folder.thresholds), group_of, read_manifest(folder),
            budget=config.select.budget, seed=config.seed, demo=made_for_demo(config.teacher),
        )  # fmt: skip

    return site.keep("overview", [state_of(folder.thresholds), state_of(folder.manifest), group_of], make)


def steps(folder: RunFolder, manifest: Mapping[str, Any], *, working: bool) -> list[Step]:
    """Return the stages in order: finished ones by the manifest, others by the files that they have written so far."""
    done = manifest["stages"]
    indexed = _files(folder, "index")
    found = []
    for stage in STAGES:
        entry = done.get(stage.name)
        if entry:
            n = entry.get("files", 0)
            detail = f"{n:,} file{'s' if n != 1 else ''}, {_size(entry.get('bytes', 0))}"
            found.append(Step(stage.name, "done", entry.get("seconds"), detail))
            continue
        written = _files(folder, _SHARDED.get(stage.name, ""))
        begun = bool(written) or any(path.exists() for path in _first(folder, stage.name))
        detail = f"{written:,} of {indexed:,} shards" if written else ""
        found.append(Step(stage.name, ("running" if working else "interrupted") if begun else "", None, detail))
    return found


def _first(folder: RunFolder, stage: str) -> list[Any]:
    """Return files that show that a stage has begun."""
    names = {"index": ["index"], "group": [], "discover": ["discovery"], "label": ["labels"], "distill": ["students"]}
    return [folder.path / name for name in names.get(stage, [])]


def _files(folder: RunFolder, name: str) -> int:
    return sum(p.name != "duplicates.parquet" for p in (folder.path / name).glob("*/*.parquet")) if name else 0


def _size(n: int) -> str:
    for size, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= size:
            return f"{n / size:.1f} {letters}"
    return f"{n} bytes"


def _so_far(site: Site) -> list[dict[str, Any]]:
    """Return rows of index, scores and selection of each source, from the files' footers."""
    found = []
    for source in site.config.sources:
        folders = (site.folder.index(source.name), site.folder.scores(source.name), site.folder.selection(source.name))
        counts = [
            sum(_rows(path) for path in folder.glob("*.parquet") if path.name != "duplicates.parquet")
            for folder in folders
        ]
        found.append({"source": source.name, **dict(zip(("lines", "scored", "decided"), counts, strict=True))})
    return found


def _rows(path: Any) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):  # it is being written
        return 0


def _overview(request: Request) -> Response:
    site = site_of(request)
    folder, manifest = site.folder, read_manifest(site.folder)
    holder = holder_of(folder.lock)
    view = overview_of(site)
    return site.render(
        request,
        "overview.html.j2",
        view=view,
        so_far=() if view else _so_far(site),
        steps=steps(folder, manifest, working=bool(holder)),
        holder=holder,
        spent=spent_rows(manifest, site.config.teacher, site.config.distill),
        replies=_replies(site),
        labels=[(group.name, _rows(folder.labels(group.name))) for group in site.groups],
    )


def _replies(site: Site) -> int:
    """Return how many replies of LLMs the journal holds."""
    paths = sorted(site.folder.journal.glob("*.jsonl.zst"))
    state = [(path.name, path.stat().st_size) for path in paths]
    return site.keep("replies", state, lambda: len(JournalReader(site.folder.journal))) if paths else 0


ROUTES = [Route("/", _overview)]
