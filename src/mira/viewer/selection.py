"""The selection, with sliders: what another budget would keep, by the code that `mira select` runs."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.config.settings import SelectSettings
from mira.config.tokens import Tokens
from mira.errors import BudgetError, ConfigError, InputError
from mira.report.charts import Segment, stack
from mira.selection.rehearsal import Near, Rehearsal, Rehearsed, ScopeFigures, SourceFigures
from mira.viewer.records import STATES, Table
from mira.viewer.site import Site, site_of

__all__ = ["ROUTES", "Asked", "Edge", "asked_in", "command", "edges", "yaml"]

_NEAR = 5  # records on each side of a cutoff
_OWN = "scope."  # before a scope's name, in addresses


@dataclass(frozen=True, slots=True)
class Asked:
    """Budgets that an address asks for.

    Attributes:
        budget: The whole budget.
        scopes: Scope -> its own budget, a share of its tokens.
        changed: Whether this is not the selection as it is.
    """

    budget: Tokens
    scopes: Mapping[str, Tokens]
    changed: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A record near a cutoff; id, row and the rest are None while the table of records is made."""

    near: Near
    row: Mapping[str, Any] | None
    shard: str = ""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A source now, and as it was selected."""

    now: SourceFigures
    before: SourceFigures
    share: float | None
    share_before: float | None

    @property
    def bar(self) -> tuple[Segment, ...]:
        """Its tokens, kept and not."""
        return stack([("kept", self.now.tokens_kept), ("dropped", self.now.tokens_in - self.now.tokens_kept)])


def asked_in(query: QueryParams, rehearsal: Rehearsal) -> Asked:
    """Read the budgets of an address.

    Raises:
        InputError: One is not a number of tokens, or there is no such scope.
    """
    written = rehearsal.as_written
    budget = _tokens("budget", query["budget"]) if query.get("budget") else None
    scopes = {}
    for key, value in query.items():
        name = key.removeprefix(_OWN)
        if key != name and value:
            if name not in written.scopes:
                raise InputError(f"there is no scope '{name}'", f"Scopes are: {', '.join(written.scopes)}")
            scopes[name] = _tokens(name, value)
    if budget is not None and not (budget.count or budget.share):
        raise InputError("a budget of 0 keeps nothing", "For example: 50%")
    return Asked(budget or written.settings.budget, scopes, bool(budget or scopes))


def _tokens(name: str, text: str) -> Tokens:
    try:
        return Tokens.parse(f"{text}%" if text.replace(".", "", 1).isdigit() and float(text) <= 100 else text)
    except ValueError as problem:
        raise InputError(f"{name}: {problem}", "For example: 50%") from None


def edges(site_table: Table | None, near: Sequence[Near]) -> list[Edge]:
    """Return records near a cutoff with their rows of the table."""
    if site_table is None:
        return [Edge(one, None) for one in near]
    ties = pa.array([one.tie for one in near], pa.uint64()).to_pylist()
    rows = site_table.rows_of(
        "SELECT * FROM records WHERE tie IN (SELECT unnest(?::UBIGINT[])) AND state < ?",
        [ties, STATES.index("rejected")],
    )
    of = {(site_table.sources[row["src"]], row["tie"]): row for row in rows}
    found = []
    for one in near:
        row = of.get((one.source, one.tie))
        found.append(Edge(one, row, site_table.shards[row["part"]][1] if row else ""))
    return found


def command(site: Site, settings: SelectSettings, before: SelectSettings) -> str:
    """Return the command that makes this selection."""
    bounds = [
        f"--source-{end} {shlex.quote(f'{source}={tokens}')}"
        for end, given, old in (
            ("min", settings.source_min, before.source_min), ("max", settings.source_max, before.source_max)
        )
        for source, tokens in (given.items() if given != old else ())
    ]  # fmt: skip
    return " ".join(["mira select", site.config.arguments, f"--budget {shlex.quote(str(settings.budget))}", *bounds])


def yaml(settings: SelectSettings) -> str:
    """Return the lines of the settings file that make this selection."""
    lines = ["select:", f"  budget: {settings.budget}"]
    for name, given in (("source_min", settings.source_min), ("source_max", settings.source_max)):
        if given:
            lines += [f"  {name}:", *(f"    {source}: {tokens}" for source, tokens in given.items())]
    return "\n".join(lines)


def _lines(now: Rehearsed, before: Rehearsed) -> list[SourceLine]:
    kept = sum(s.tokens_kept for s in now.sources.values())
    was = sum(s.tokens_kept for s in before.sources.values())
    return [
        SourceLine(
            source, before.sources[name],
            source.tokens_kept / kept if kept else None, before.sources[name].tokens_kept / was if was else None,
        )
        for name, source in now.sources.items()
    ]  # fmt: skip


def _percent_of(scope: ScopeFigures) -> float:
    return 100 * scope.budget_tokens / scope.tokens_in if scope.tokens_in else 0.0


def _selection(request: Request) -> Response:
    site, query = site_of(request), request.query_params
    rehearsal = site.rehearsal()
    problem = ""
    try:
        asked = asked_in(query, rehearsal)
        settings = rehearsal.with_scopes(asked.budget, asked.scopes)
        now = rehearsal.under(settings)
    except (BudgetError, ConfigError, InputError) as error:
        problem, asked, now = str(error), Asked(rehearsal.as_written.settings.budget, {}, False), rehearsal.as_written
    table = site.records.table()
    total = sum(s.tokens_in for s in now.sources.values())
    context: dict[str, Any] = {
        "problem": problem,
        "asked": asked,
        "now": now,
        "before": rehearsal.as_written,
        "lines": _lines(now, rehearsal.as_written),
        "total": total,
        "kept": sum(s.tokens_kept for s in now.sources.values()),
        "records": sum(s.kept for s in now.sources.values()),
        "percent": 100 * asked.budget.of(rehearsal.total) / rehearsal.total if rehearsal.total else 0.0,
        "own": {key: 100 * tokens.of(now.scopes[key].tokens_in) / max(now.scopes[key].tokens_in, 1)
                for key, tokens in asked.scopes.items()},
        "percent_of": _percent_of,
        "edges": {key: edges(table, rehearsal.near(now, key, _NEAR)) for key in now.scopes},
        "command": command(site, now.settings, rehearsal.as_written.settings),
        "yaml": yaml(now.settings),
        "why_one_budget": rehearsal.why_one_budget,
        "table": table,
    }  # fmt: skip
    template = "selection_figures.html.j2" if query.get("part") else "selection.html.j2"
    return site.render(request, template, **context)


ROUTES = [Route("/selection", _selection)]
