"""Records whose text contains something: the sources are read from start to end, in a thread that can be stopped.

What counts as a match is what `mira explain --text` finds: capital and small letters are the same, and so is all white
space. A line that cannot hold the text is passed over before it is parsed. Texts are not kept, only where they are.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mira.corpus import Shard
from mira.corpus.files.lines import size_of
from mira.corpus.index import check_shard
from mira.errors import MiraError
from mira.selection.explain.text import hits_in
from mira.viewer.filters import Wanted, columns_of, where
from mira.viewer.records import Table
from mira.viewer.site import Site

__all__ = ["Hit", "Search", "Searches", "searches"]

_MOST = 500  # hits; the search ends there
_KEPT = 8  # searches whose hits are kept


@dataclass(frozen=True, slots=True)
class Hit:
    """A record whose text matches: its place in the table, and the text around the first match."""

    part: int
    row: int
    excerpt: str


class Search:
    """One search, going on or ended.

    Attributes:
        id: Its name in addresses.
        hits: What was found so far, in order of sources, files and rows.
        state: running, done, stopped, full (`_MOST` hits) or failed.
        problem: Why it failed.
    """

    def __init__(self, site: Site, wanted: Wanted, table: Table) -> None:
        self.id = secrets.token_hex(8)
        self.hits: list[Hit] = []
        self.state, self.problem = "running", ""
        self._site, self._wanted, self._table = site, wanted, table
        self._bytes, self._total, self._start, self._seconds = 0, 0, time.monotonic(), 0.0
        self._before, self._of_shard = 0, 0  # of the total
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def share(self) -> float:
        """How much of the files was read, 0 to 1."""
        return min((self._before + self._of_shard) / self._total, 1.0) if self._total else 0.0

    @property
    def said(self) -> str:
        """Progress in words, with MB per second."""
        seconds = self._seconds or time.monotonic() - self._start
        speed = self._bytes / 1e6 / max(seconds, 1e-3)
        words = {
            "running": "searching", "done": "searched everything", "stopped": "stopped",
            "full": f"ended at {_MOST} matches", "failed": f"failed: {self.problem}",
        }  # fmt: skip
        read = f"{self._bytes / 1e6:,.1f} MB read at {speed:,.0f} MB/s"
        return f"{words[self.state]}: {len(self.hits):,} matches, {self.share:.0%}, {read}"

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        self._thread.join(seconds)

    def rows(self, table: Table) -> list[tuple[dict[str, Any], Hit]]:
        """Return the rows of the table that were found, in the order that was asked for."""
        hits = {(hit.part, hit.row): hit for hit in list(self.hits)}
        if not hits:
            return []
        rows = table.rows_of(
            "SELECT rowid AS place, * FROM records WHERE part IN (SELECT unnest(?::INTEGER[])) "
            "AND row IN (SELECT unnest(?::BIGINT[]))",
            [sorted({part for part, _ in hits}), sorted({row for _, row in hits})],
        )
        found = [(row, hits[row["part"], row["row"]]) for row in rows if (row["part"], row["row"]) in hits]
        found.sort(key=lambda pair: pair[0]["place"])
        if column := self._wanted.sort and columns_of(table)[self._wanted.sort]:
            known = [pair for pair in found if pair[0][column] is not None]
            known.sort(key=lambda pair: pair[0][column], reverse=self._wanted.descending)
            found = [*known, *(pair for pair in found if pair[0][column] is None)]
        return found

    def _run(self) -> None:
        try:
            self.state = self._read()
        except (MiraError, OSError) as problem:
            self.state, self.problem = "failed", str(problem)
        self._seconds = time.monotonic() - self._start

    def _read(self) -> str:
        corpus, work = self._site.config.corpus, list(self._parts())
        self._total = sum(_size(shard) for _, shard, _ in work)
        for place, shard, rows in work:
            check_shard(corpus, self._site.folder, shard)
            self._before, self._of_shard = self._before + self._of_shard, 0
            for hit in hits_in(corpus, shard, self._wanted.text, rows, self._count):
                self.hits.append(Hit(place, hit.item.row, hit.excerpt))
                if len(self.hits) >= _MOST:
                    return "full"
            if self._stopped.is_set():
                return "stopped"
            self._of_shard = _size(shard)
        return "done"

    def _count(self, n: int) -> bool:
        """Count bytes of lines that were read; return whether to go on."""
        self._bytes += n
        self._of_shard += n
        return not self._stopped.is_set()

    def _parts(self) -> Iterator[tuple[int, Shard, Any]]:
        """Yield each shard that may hold a match, with a mask of its rows that pass the other filters."""
        condition, given = where(self._wanted, self._table)
        for place, (source, name) in enumerate(self._table.shards):
            shard = self._site.shard(source, name)
            if shard is None:
                continue
            if condition == "true":
                yield place, shard, None
                continue
            rows = self._table.query(f"SELECT row FROM records WHERE part = ? AND {condition}", [place, *given])
            if rows:
                found = np.array([row for (row,) in rows], np.int64)
                mask = np.zeros(int(found.max()) + 1, bool)
                mask[found] = True
                yield place, shard, mask


class Searches:
    """The latest searches of a site."""

    def __init__(self, site: Site) -> None:
        self._site, self._lock = site, threading.Lock()
        self._known: dict[Any, Search] = {}

    def start(self, wanted: Wanted, table: Table) -> Search:
        """Return the search for this; the one that was started before, if any, unless it was stopped."""
        key = (id(table), tuple(sorted((k, str(v)) for k, v in wanted.query(sort="", descending=False).items())))
        with self._lock:
            found = self._known.get(key)
            if found is None or found.state in ("stopped", "failed"):
                while len(self._known) >= _KEPT:
                    self._known.pop(next(iter(self._known))).stop()
                found = self._known[key] = Search(self._site, wanted, table)
        found.wait(0.3)  # a small run is searched before the page is shown
        return found

    def find(self, name: str) -> Search | None:
        """Return a search by its name; None if it is forgotten."""
        with self._lock:
            return next((search for search in self._known.values() if search.id == name), None)


def searches(site: Site) -> Searches:
    """Return the searches of a site."""
    return site.keep("searches", None, lambda: Searches(site))


def _size(shard: Shard) -> int:
    """Return the bytes of a shard's file or slice; 0 if they are not known."""
    return shard.stop - (shard.start or 0) if shard.stop is not None else size_of(shard.path)
