"""Length, or anything else that is known of a record, against its quality, source by source: where artefacts show."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mira.corpus.parse import Parser
from mira.errors import InputError
from mira.report.charts import HEAT_STEPS, Tick, ticks
from mira.run_folder.results import read_result
from mira.selection.yardstick.figures import Kept
from mira.viewer.filters import columns_of
from mira.viewer.records import STATES, Table
from mira.viewer.site import Site, href, site_of

__all__ = ["ROUTES", "Picture", "Stratum", "by_field", "picture"]

_COLUMNS, _ROWS = 40, 24
_READ = 20_000  # lines of a source that are read for a field of its own
_VALUES = 40  # distinct values of a field that are listed
_LOGARITHMIC = ("tokens", "chars")


@dataclass(frozen=True, slots=True)
class Spot:
    """A rectangle of a picture: place and size in percent, colour step, records, and the address that lists them."""

    x: float
    y: float
    width: float
    height: float
    step: int
    records: int
    href: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Records of a source by two columns.

    Attributes:
        source: The source.
        spots: Rectangles that hold records.
        x_ticks: Of the horizontal axis.
        y_ticks: Of the vertical one.
        records: Records that have both.
        rho: Spearman's rank correlation of quality and length as `kept.json` has it; None if it is not that pair.
    """

    source: str
    spots: tuple[Spot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    records: int
    rho: float | None


@dataclass(frozen=True, slots=True)
class Stratum:
    """Records that share a value of a field: how many, their mean quality, and the share of them that is kept."""

    value: str
    records: int
    quality: float | None
    tokens: float
    kept: float


def picture(site: Site, table: Table, source: str, x: str, y: str) -> Picture:
    """Return a source's records by two columns; lengths are shown by their logarithm."""
    columns = columns_of(table)
    logarithmic = x in _LOGARITHMIC
    across = f'log2(greatest("{columns[x]}", 1))' if logarithmic else f'"{columns[x]}"::DOUBLE'
    up = f'"{columns[y]}"::DOUBLE'
    of = f'FROM records WHERE src = ? AND "{columns[x]}" IS NOT NULL AND "{columns[y]}" IS NOT NULL'
    src = table.sources.index(source)
    ends = table.query(f"SELECT min({across}), max({across}), min({up}), max({up}), count(*) {of}", [src])[0]
    n = int(ends[4])
    if not n:
        return Picture(source, (), (), (), 0, None)
    x0, x1, y0, y1 = (float(end) for end in ends[:4])
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1)
    rows = table.query(
        f"""SELECT least(floor(({across} - ?) / ? * ?), ?)::INTEGER AS i, least(floor(({up} - ?) / ? * ?), ?)::INTEGER
        AS j, count(*) {of} GROUP BY i, j""",
        [x0, x1 - x0, _COLUMNS, _COLUMNS - 1, y0, y1 - y0, _ROWS, _ROWS - 1, src],
    )
    most = max(count for _, _, count in rows)

    def edge(k: int, low: float, high: float, parts: int, *, power: bool) -> str:
        value = low + (high - low) * k / parts
        return f"{2**value if power else value:.6g}"

    spots = []
    for i, j, count in sorted(rows):
        ranges = {
            f"{x}.min": edge(i, x0, x1, _COLUMNS, power=logarithmic),
            f"{x}.max": edge(i + 1, x0, x1, _COLUMNS, power=logarithmic),
            f"{y}.min": edge(j, y0, y1, _ROWS, power=False), f"{y}.max": edge(j + 1, y0, y1, _ROWS, power=False),
        }  # fmt: skip
        step = round((HEAT_STEPS - 1) * math.log1p(count) / math.log1p(most))
        spots.append(
            Spot(
                100 * i / _COLUMNS, 100 - 100 * (j + 1) / _ROWS, 100 / _COLUMNS, 100 / _ROWS, step, count,
                href("/records", source=source, **ranges),
            )
        )  # fmt: skip
    x_ticks = ticks(x0, x1, 5)
    if logarithmic:
        x_ticks = tuple(Tick(t.x, f"{2 ** float(t.label):,.0f}", t.anchor) for t in x_ticks)
    rho = _length_rho(site).get(source) if (x, y) == ("tokens", "quality") else None
    return Picture(source, tuple(spots), x_ticks, ticks(y0, y1, 4), n, rho)


def _length_rho(site: Site) -> Mapping[str, float | None]:
    if not site.folder.kept.is_file():
        return {}
    return {name: found.length_rho for name, found in read_result(Kept, site.folder.kept).sources.items()}


def by_field(site: Site, table: Table, source: str, path: str) -> tuple[list[Stratum], int, bool]:
    """Return strata of a source by a field of its lines that lies outside the record, such as meta.language.

    Args:
        site: The site.
        table: The records.
        source: The source.
        path: The field; a dot goes into nested objects.

    Returns:
        Strata, the most frequent first; how many records they are; and whether these are all of the source.
    """
    corpus, complete = site.config.corpus, True
    values: dict[tuple[int, int], str] = {}
    parser = Parser(corpus.source(source), corpus.max_record_bytes)
    for shard in site.shards().get(source, []):
        if len(values) >= _READ:
            complete = False
            break
        part = table.shards.index((source, shard.name)) if (source, shard.name) in table.shards else -1
        for row, value in parser.values(shard, path):
            if value is not None:
                values[part, row] = _plain(value)
            if len(values) >= _READ:
                complete = False
                break
    parts = sorted({part for part, _ in values})
    rows = table.query(
        "SELECT part, row, quality, n_tokens, state FROM records WHERE part IN (SELECT unnest(?::INTEGER[])) "
        "AND state != ?",
        [parts, STATES.index("rejected")],
    )
    of: dict[str, list[tuple[Any, ...]]] = {}
    for part, row, *rest in rows:
        if (part, row) in values:
            of.setdefault(values[part, row], []).append(tuple(rest))
    return _strata(of), sum(map(len, of.values())), complete


def _strata(of: Mapping[str, list[tuple[Any, ...]]]) -> list[Stratum]:
    found = []
    for value, _ in Counter({value: len(rows) for value, rows in of.items()}).most_common(_VALUES):
        rows = of[value]
        qualities = [quality for quality, _, _ in rows if quality is not None]
        found.append(
            Stratum(
                value, len(rows), float(np.mean(qualities)) if qualities else None,
                float(np.mean([tokens for _, tokens, _ in rows])),
                sum(state == STATES.index("kept") for *_, state in rows) / len(rows),
            )
        )  # fmt: skip
    return found


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _page(request: Request) -> Response:
    site, query = site_of(request), request.query_params
    table = site.records.table()
    if table is None:
        return site.render(request, "making.html.j2", progress=site.records.progress)
    numeric = [name for name in columns_of(table) if name not in ("source", "id", "row", "state", "reason", "flags")]
    x, y = query.get("x") or "tokens", query.get("y") or "quality"
    source, path = query.get("source", ""), query.get("field", "").strip()
    for name in (x, y):
        if name not in numeric:
            raise InputError(f"there is no column '{name}'", f"Columns are: {', '.join(numeric)}")
    if source and source not in table.sources:
        raise InputError(f"there is no source '{source}'", f"Sources are: {', '.join(table.sources)}")
    shown = [source] if source else list(table.sources)
    pictures = site.keep(
        f"pictures {x}/{y}/{source}", table, lambda: [picture(site, table, name, x, y) for name in shown]
    )
    strata = by_field(site, table, source, path) if source and path else None
    return site.render(
        request, "lengths.html.j2", pictures=pictures, x=x, y=y, source=source, field=path, strata=strata,
        numeric=numeric, table=table,
    )  # fmt: skip


ROUTES = [Route("/lengths", _page)]
