"""A static copy of a run's pages, for people without the run: plain files that a browser opens from a folder.

The copy has every page but search, and the pages of a bounded sample of records: those that other pages point to, then
records at random, source by source. Pages are made by the application itself. Addresses become names of files, and
links to what is not in the copy lose their target. The copy runs no script.
"""

import asyncio
import html
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.applications import Starlette

from mira.errors import ConfigError, RunError
from mira.progress import Log
from mira.viewer.app import application
from mira.viewer.guard import new_token
from mira.viewer.records import STATES, Table
from mira.viewer.search import shown
from mira.viewer.serve import RECORDS
from mira.viewer.site import EXPORT, Site, href

__all__ = ["export"]

_MOST = 2_000
_LINK = re.compile(r'(href|src)="([^"]*)"')
_Key = tuple[str, tuple[tuple[str, str], ...]]


def export(site: Site, folder: Path, log: Log, records: int = RECORDS) -> int:
    """Write a static copy of the pages of a run.

    Args:
        site: The site.
        folder: Where the copy goes; it must not exist, or be empty.
        log: Where progress goes.
        records: Records whose pages are in the copy, 0 to 2,000.

    Returns:
        How many pages were written.

    Raises:
        ConfigError: The folder is in use, or the number is out of range.
        RunError: A page cannot be made.
    """
    if not 0 <= records <= _MOST:
        raise ConfigError(f"--records {records:,}: a copy has 0 to {_MOST:,} records", "For example: --records 500")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--export {folder}: it is there already", "Name a folder that is empty or does not exist.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    try:
        n = asyncio.run(_Copy(site, made, log).write(records))
        if folder.is_dir():
            folder.rmdir()
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return n


class _Copy:
    """One copy that is being written."""

    def __init__(self, site: Site, folder: Path, log: Log) -> None:
        self._site, self._folder, self._log, self._token = site, folder, log, new_token()
        self._app: Starlette = application(site, self._token)
        self._files: dict[_Key, str] = {}
        self._pages: dict[str, bytes] = {}

    async def write(self, records: int) -> int:
        table = self._site.records.wait()
        names = {
            "/": "index.html", "/selection": "selection.html", "/reliability": "reliability.html",
            "/disagreements": "disagreements.html", "/lengths": "lengths.html", "/rubric": "rubric.html",
            "/records": "records.html", "/people": "people.html",
        }  # fmt: skip
        if not self._site.folder.thresholds.is_file():
            del names["/selection"]
        for address, name in names.items():
            await self._fetch(address, name)
        for kind, prefix in (("cell", "/cell?"), ("slot", "/rubric/slot?")):
            for n, address in enumerate(sorted(self._linked(prefix))):
                await self._fetch(address, f"{kind}s/{n}.html")
        await self._records(table, records)
        for name, page in self._pages.items():
            self._put(name, self._relinked(page.decode(), name.count("/")).encode())
        for name in ("style.css", "mark.svg"):
            self._put(f"static/{name}", self._site.static(name) or b"")
        return len(self._pages)

    async def _records(self, table: Table, most: int) -> None:
        rows = self._chosen(table, most)
        with self._log.task("export", len(rows)) as task:
            for n, row in enumerate(rows):
                name = f"records/{n}.html"
                await self._fetch(row["href"], name)
                if row["id"] is not None:
                    self._files.setdefault(_key(href("/record", source=row["source"], id=row["id"])), name)
                task.advance()

    def _chosen(self, table: Table, most: int) -> list[dict[str, Any]]:
        """Return the records of the copy: those that pages point to, then the smallest hashes of each source."""
        found: dict[tuple[Any, Any], dict[str, Any]] = {}
        for address in self._linked("/record?"):
            if len(found) >= most:
                break
            query = dict(parse_qsl(urlsplit(address).query))
            if query.get("source") in table.sources and query.get("id"):
                rows = table.rows_of(
                    "SELECT * FROM records WHERE id = ? AND src = ? AND state != ? LIMIT 1",
                    [query["id"], table.sources.index(query["source"]), STATES.index("rejected")],
                )
                found |= {(row["part"], row["row"]): shown(row, table) for row in rows}
        each = -(-most // len(table.sources))
        for row in table.rows_of(
            "SELECT * FROM records QUALIFY row_number() OVER (PARTITION BY src ORDER BY tie, rowid) <= ?", [each]
        ):
            if len(found) < most:
                found.setdefault((row["part"], row["row"]), shown(row, table))
        return list(found.values())[:most]

    def _linked(self, prefix: str) -> list[str]:
        links = (html.unescape(m[2]) for page in self._pages.values() for m in _LINK.finditer(page.decode()))
        return list(dict.fromkeys(link for link in links if link.startswith(prefix)))

    async def _fetch(self, address: str, name: str) -> None:
        status, page = await _get(self._app, address, self._token)
        if status != 200:
            raise RunError(
                f"{address}: this page cannot be made (status {status})", "Open it in `mira view` to see why."
            )
        self._files[_key(address)] = name
        self._pages[name] = page

    def _relinked(self, page: str, depth: int) -> str:
        up = "../" * depth

        def target(match: re.Match[str]) -> str:
            attribute, address = match[1], html.unescape(match[2])
            if address.startswith("/static/"):
                return f'{attribute}="{up}{address.lstrip("/")}"'
            name = self._files.get(_key(address))
            return f'{attribute}="{up}{name}"' if name else 'class="gone"'

        return _LINK.sub(target, page)

    def _put(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _key(address: str) -> _Key:
    parts = urlsplit(address)
    return parts.path, tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))


async def _get(app: Starlette, address: str, token: str) -> tuple[int, bytes]:
    """Ask the application for a page, without a network between."""
    parts = urlsplit(address)
    cookie = f"mira_view_80={token}".encode()
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": parts.path, "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"cookie", cookie)], "client": None, "server": ("127.0.0.1", 80),
        EXPORT: True,
    }  # fmt: skip
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        body += message.get("body", b"")

    await app(scope, receive, send)
    return status, body
