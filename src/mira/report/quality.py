"""How quality is distributed in each source: histograms counted in SQL over the selection sidecars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from mira.corpus import database
from mira.errors import RunError
from mira.report.charts import Bar, Tick, bars, place, ticks
from mira.report.overview import Overview, SourceRow
from mira.run_folder.paths import RunFolder

__all__ = ["Panel", "Ridge", "panels", "selection_view", "sidecars"]

BINS = 60
_FINE = 64 * BINS  # bins that are counted; the shown ones are made of them
_OUTSIDE = 0.001  # share of records beyond each end of the axis, shown in the outermost bars

_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ridge:
    """One source's distribution, in tokens.

    Attributes:
        source: Its name.
        bars: The histogram, scaled to its tallest bar.
        cut: Place of its threshold in percent of the axis, or None.
        threshold: The threshold, or None.
        own: The source's threshold is not its scope's (a floor or cap is in effect).
        records: Records with a quality.
    """

    source: str
    bars: tuple[Bar, ...]
    cut: float | None
    threshold: float | None
    own: bool
    records: int


@dataclass(frozen=True, slots=True)
class Panel:
    """Sources that compete, over the axis of quality that all panels share."""

    key: str
    threshold: float | None
    cut: float | None
    ticks: tuple[Tick, ...]
    ridges: tuple[Ridge, ...]
    outside: bool

    @property
    def has_cuts(self) -> bool:
        """Whether a cutoff is drawn."""
        return any(ridge.cut is not None for ridge in self.ridges)


@dataclass(frozen=True, slots=True)
class _Histogram:
    kept: _Counts
    dropped: _Counts
    records: _Counts


@dataclass(frozen=True, slots=True)
class _Axis:
    """What all panels show of the fine bins, [first, last), and the qualities at its ends."""

    first: int
    last: int
    low: float
    high: float


def panels(con: duckdb.DuckDBPyConnection, run: RunFolder, view: Overview) -> tuple[Panel, ...]:
    """Return one panel a scope whose records have a quality, all over one axis.

    Memory does not grow with the number of records.
    """
    listed = {name for _, members, _, _ in _competitions(view) for name in members}
    sources = {s.name: s for s in view.sources if s.name in listed}
    span = _span(con, run, tuple(sources.values()))
    if span is None:
        return ()
    fine = {name: _histogram(con, run, name, *span) for name in sources}
    drawn = []
    for key, members, threshold, on_quality in _competitions(view):
        own = {name: fine[name] for name in members if name in fine}
        if any(h.records.any() for h in own.values()):
            drawn.append((key, own, threshold, on_quality))
    axis = _axis(span, [_sum(own) for _, own, _, _ in drawn])
    return tuple(_panel(key, own, sources, axis, threshold, show) for key, own, threshold, show in drawn)


def _competitions(view: Overview) -> list[tuple[str, Sequence[str], float | None, bool]]:
    """Return what shares a panel: key, sources, cutoff, and whether cutoffs are on the axis.

    That is a scope; or everything where scopes share sources, since a source then has a cutoff a domain.
    """
    listed = [name for scope in view.scopes for name in scope.sources]
    if len(set(listed)) < len(listed):
        return [("all sources", [s.name for s in view.sources], None, False)]
    return [(s.key, s.sources, s.threshold if s.on_quality else None, s.on_quality) for s in view.scopes]


def sidecars(folder: Path) -> str:
    """Return a folder's Parquet files as an SQL list.

    Raises:
        RunError: The sidecars are missing.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise RunError(f"{folder}: there is nothing yet", "Run: mira run CONFIG")
    return f"[{database.listed(paths)}]"


def selection_view(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str) -> None:
    """Make the view `selection` of a source: id, n_tokens, quality, kept, reason.

    Raises:
        RunError: Nothing was selected from it.
    """
    files = sidecars(run.selection(source))
    con.execute(
        "CREATE OR REPLACE TEMP VIEW selection AS "
        f"SELECT id, n_tokens, quality, kept, reason::VARCHAR AS reason FROM read_parquet({files})"
    )


def _axis(span: tuple[float, float], panels: Sequence[_Counts]) -> _Axis:
    """Return the axis on which no panel has more than its outermost records outside."""
    middles = [_middle(records) for records in panels]
    first, last = _whole_bars(min(first for first, _ in middles), max(last for _, last in middles))
    step = (span[1] - span[0]) / _FINE
    return _Axis(first, last, span[0] + first * step, span[0] + last * step)


def _sum(histograms: Mapping[str, _Histogram]) -> _Counts:
    return sum((h.records for h in histograms.values()), np.zeros(_FINE, np.int64))


def _panel(
    key: str,
    fine: Mapping[str, _Histogram],
    sources: Mapping[str, SourceRow],
    axis: _Axis,
    threshold: float | None,
    show_cuts: bool,
) -> Panel:
    records = _sum(fine)
    return Panel(
        key=key,
        threshold=threshold,
        cut=None if threshold is None else place(threshold, axis.low, axis.high),
        ticks=ticks(axis.low, axis.high),
        ridges=tuple(
            _ridge(name, histogram, axis, sources[name].threshold if show_cuts else None, threshold)
            for name, histogram in fine.items()
        ),
        outside=bool(records[: axis.first].any() or records[axis.last :].any()),
    )


def _span(con: duckdb.DuckDBPyConnection, run: RunFolder, members: Sequence[SourceRow]) -> tuple[float, float] | None:
    lows, highs = [], []
    for source in members:
        selection_view(con, run, source.name)
        for least, most in con.execute("SELECT min(quality), max(quality) FROM selection").fetchall():
            if least is not None:
                lows.append(float(least))
                highs.append(float(most))
    if not lows:
        return None
    low, high = min(lows), max(highs)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _histogram(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str, low: float, high: float) -> _Histogram:
    selection_view(con, run, source)
    rows = con.execute(
        """SELECT least(greatest(floor((quality - ?) / ? * ?), 0), ?)::INTEGER AS bin, kept,
        sum(n_tokens)::BIGINT, count(*) FROM selection WHERE quality IS NOT NULL GROUP BY bin, kept""",
        [low, high - low, _FINE, _FINE - 1],
    ).fetchall()
    histogram = _Histogram(*(np.zeros(_FINE, np.int64) for _ in range(3)))
    for at, kept, tokens, records in rows:
        (histogram.kept if kept else histogram.dropped)[at] += tokens
        histogram.records[at] += records
    return histogram


def _middle(records: _Counts) -> tuple[int, int]:
    """Return the range of fine bins that holds all but the outermost records."""
    running = records.cumsum()
    total = int(running[-1])
    first = int(np.searchsorted(running, max(1, _OUTSIDE * total)))
    return first, int(np.searchsorted(running, total - _OUTSIDE * total)) + 1


def _whole_bars(first: int, last: int) -> tuple[int, int]:
    """Widen a range of fine bins to at least BINS, and to whole bars."""
    width = -(-max(last - first, BINS) // BINS) * BINS
    first = max(0, min(first - (width - (last - first)) // 2, _FINE - width))
    return first, min(first + width, _FINE)


def _ridge(source: str, histogram: _Histogram, axis: _Axis, threshold: float | None, pool: float | None) -> Ridge:
    shown = [_shown(fine, axis.first, axis.last) for fine in (histogram.kept, histogram.dropped)]
    return Ridge(
        source=source,
        bars=bars(*shown),
        cut=None if threshold is None else place(threshold, axis.low, axis.high),
        threshold=threshold,
        own=threshold is not None and pool is not None and threshold != pool,
        records=int(histogram.records.sum()),
    )


def _shown(fine: _Counts, first: int, last: int) -> _Counts:
    edges = np.linspace(first, last, BINS + 1).round().astype(np.int64)
    edges[0], edges[-1] = 0, len(fine)
    return np.add.reduceat(fine, edges[:-1])
