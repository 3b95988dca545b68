"""The copy on this machine of a run folder at a URL.

What is at the URL counts. A file of the copy is current if its size and its time say so: the time is made of the
object's identity. Names with a part that begins with a dot, and what is below `values/`, are of this machine alone.
"""

import hashlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import orjson

from mira.run_folder.machine import user_cache
from mira.run_folder.store import Object, Store, UrlStore, each, hash_file

__all__ = [
    "Change",
    "Recorded",
    "WorkingCopy",
    "apply_changes",
    "fetch",
    "given_as",
    "known_hash",
    "refresh",
    "time_of",
    "upload",
    "working_copy",
    "working_copy_of",
]

_OF_THIS_MACHINE = ("values",)
_RECEIPTS = "receipts"
_LATEST = (1 << 31) * 10**9  # ns; every file system has times below it

Item = TypeVar("Item")
Result = TypeVar("Result")


class Change(NamedTuple):
    """An object that was put (or, if None, removed) below a URL, and the hash of its content."""

    url: str
    name: str
    object: Object | None
    hash: str = ""


class _Listed:
    """What is listed of one folder at the top of a run: its objects, and the folders that they are in."""

    def __init__(self, objects: dict[str, Object]) -> None:
        self.objects: dict[str, Object] = {}
        self.folders: Counter[str] = Counter()
        for name, known in objects.items():
            self.set(name, known)

    def set(self, name: str, known: Object | None) -> None:
        was = name in self.objects
        if known is not None:
            self.objects[name] = known
        elif was:
            del self.objects[name]
        if was != (known is not None):
            parts = name.split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                self.folders[folder] += 1 if known is not None else -1


class WorkingCopy:
    """The copy on this machine of a run folder at a URL. Made by `run_path`.

    Attributes:
        url: The URL, as it was given.
        root: The folder of the copy.
        store: What is at the URL.
    """

    def __init__(self, url: str, root: str, store: Store) -> None:
        self.url, self.root, self.store = url, root, store
        self._listed: dict[str, _Listed] = {}
        self._hashes: dict[str, tuple[Object, str]] = {}
        self._receipts_read = False
        self._put: dict[str, tuple[int, str, str]] = {}  # since the last receipt: size, identity, hash
        self._guard = threading.RLock()

    def path(self, name: str) -> str:
        """Return where an object's copy is."""
        return f"{self.root}/{name}" if name else self.root

    def refresh(self, name: str = "") -> None:
        """Forget what was listed, of the folder at the top that a name is in or of all: it is asked for again."""
        with self._guard:
            self._listed.pop(name.partition("/")[0], None) if name else self._listed.clear()
            self._receipts_read = False

    def is_shared(self, name: str) -> bool:
        """Return whether a name is of the run, not of this machine alone."""
        parts = name.split("/")
        return parts[0] not in _OF_THIS_MACHINE and not any(part.startswith(".") for part in parts)

    def _top(self, name: str) -> _Listed:
        """Return what is listed of a name's folder at the top; objects at the top itself are under ""."""
        top = name.partition("/")[0] if "/" in name else ""
        return self._of_top(top)

    def _of_top(self, top: str) -> _Listed:
        with self._guard:
            if top not in self._listed:
                found = self.store.list(top, deep=bool(top))
                self._listed[top] = _Listed({name: found[name] for name in found if self.is_shared(name)})
            return self._listed[top]

    def find(self, name: str) -> Object | None:
        """Return what is known of an object; None if it is missing."""
        return self._top(name).objects.get(name)

    def is_folder(self, name: str) -> bool:
        """Return whether there are objects below a name."""
        if not name:
            return True
        return self._of_top(name.partition("/")[0]).folders[name] > 0

    def below(self, name: str) -> list[str]:
        """Return the names of all objects below a folder, sorted; those of the whole run for ""."""
        if not name:
            return sorted(found for found in self.store.list() if self.is_shared(found))
        start = f"{name}/"
        return sorted(n for n in self._of_top(name.partition("/")[0]).objects if n.startswith(start))

    def set(self, name: str, known: Object | None, content_hash: str = "") -> None:
        """Take note that an object was put, or removed."""
        with self._guard:
            if known is not None and content_hash:
                self._hashes[name] = (known, content_hash)
                self._put[name] = (*known, content_hash)
            elif known is None:
                self._put.pop(name, None)
            top = self._listed.get(name.partition("/")[0] if "/" in name else "")
            if top is not None:
                top.set(name, known)

    def is_current(self, name: str) -> bool:
        """Return whether this machine has the object as it is at the URL."""
        known = self.find(name)
        return known is not None and _is_current(self.path(name), known)

    def fetch(self, name: str) -> None:
        """Bring an object's copy up to date; of a folder, make the folder. Nothing where there is neither.

        Raises:
            OSError: The object cannot be read.
        """
        if not name or not self.is_shared(name):
            return
        known = self.find(name)
        if known is None:
            if self.is_folder(name):
                os.makedirs(self.path(name), exist_ok=True)  # noqa: PTH103
            return
        path = self.path(name)
        if _is_current(path, known):
            return
        folder, base = os.path.split(path)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        temporary = f"{folder}/.{base[:100]}.{os.getpid()}.{secrets.token_hex(6)}.tmp"
        try:
            found = self.store.fetch(name, Path(temporary), known)
            _mark(temporary, found)
            os.replace(temporary, path)  # noqa: PTH105
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)  # noqa: PTH108
        self.set(name, found)

    def upload(self, name: str) -> None:
        """Put a file of the copy at the URL.

        Raises:
            OSError: It cannot be put.
        """
        if not self.is_shared(name):
            return
        path = self.path(name)
        content_hash = hash_file(Path(path))
        known = self.store.put(name, Path(path))
        with suppress(FileNotFoundError):  # another process replaces it
            _mark(path, known)
        self.set(name, known, content_hash)
        _record(Change(self.url, name, known, content_hash))

    def hash_of(self, name: str) -> str:
        """Return the hash of an object's content, if whoever put it reported it; else ""."""
        known = self.find(name)
        if self._hashes.get(name, (None, ""))[0] != known and not self._receipts_read:
            self._read_receipts()
        of, content_hash = self._hashes.get(name, (None, ""))
        return content_hash if of == known else ""

    def _read_receipts(self) -> None:
        receipts = self.below(_RECEIPTS)
        fetch(self.path(name) for name in receipts)
        for receipt in receipts:
            reported: dict[str, tuple[int, str, str]] = orjson.loads(Path(self.path(receipt)).read_bytes())
            for name, (size, identity, content_hash) in reported.items():
                known = Object(size, identity)
                if self._hashes.get(name, (None, ""))[0] != self.find(name):
                    self._hashes[name] = (known, content_hash)
        self._receipts_read = True

    def write_receipt(self, worker: str) -> None:
        """Report the hashes of what this process has put since the last time: others need not read it.

        Args:
            worker: Who reports, for people.
        """
        with self._guard:
            put, self._put = self._put, {}
        reported = {name: facts for name, facts in put.items() if name.partition("/")[0] not in (_RECEIPTS, "leases")}
        if reported:
            name = f"{_RECEIPTS}/{worker}-{secrets.token_hex(4)}.json"
            self.store.put(name, orjson.dumps(reported))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects and their copies."""
        wanted = list(names)
        shared = [name for name in wanted if self.is_shared(name)]
        self.store.remove(name for name in shared if self.find(name) is not None)
        for name in wanted:
            with suppress(FileNotFoundError):
                os.unlink(self.path(name))  # noqa: PTH108
        for name in shared:
            self.set(name, None)
            _record(Change(self.url, name, None))


_copies: dict[str, WorkingCopy] = {}  # by root
_mounting = threading.Lock()


def working_copy(url: str) -> WorkingCopy:
    """Return the working copy of a run folder at a URL. Nothing is asked or made yet."""
    url = url.rstrip("/")
    folder = user_cache() / "runs" / hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    root = os.path.realpath(folder)
    with _mounting:
        if root not in _copies:
            _copies[root] = WorkingCopy(url, root, UrlStore(url))
        return _copies[root]


def working_copy_of(path: Path | str) -> tuple[WorkingCopy, str] | None:
    """Return the working copy that a path lies in, and the object's name; None for other paths."""
    text = str(path)
    for root, copy in _copies.items():
        if text == root:
            return copy, ""
        if text.startswith(f"{root}/"):
            return copy, text[len(root) + 1 :]
    return None


def given_as(path: Path | str) -> str:
    """Return a path as text that leads to it on any machine: the URL of what lies in a working copy."""
    place = working_copy_of(path)
    return f"{place[0].url}/{place[1]}".rstrip("/") if place else str(path)


def refresh(path: Path) -> None:
    """Ask again what is at the URL of a run folder, or in a folder of it; nothing for a folder of this machine."""
    if place := working_copy_of(path):
        place[0].refresh(place[1])


def fetch(paths: Iterable[Path | str]) -> None:
    """Bring the copies of many objects up to date, several at once; other paths do not matter.

    Call it where paths are passed on as text, as to DuckDB, and where many files are about to be read.
    """
    if not _copies:
        return
    places = [place for path in paths if (place := working_copy_of(path))]
    by_text = {copy.path(name): (copy, name) for copy, name in places}

    def one(text: str) -> None:
        copy, name = by_text[text]
        copy.fetch(name)
        for inner in copy.below(name) if copy.find(name) is None and copy.is_folder(name) else ():
            copy.fetch(inner)

    each(one, list(by_text))


def upload(paths: Iterable[Path]) -> None:
    """Put files that are in place at the URL, several at once; other paths do not matter."""
    places = {str(path): place for path in paths if (place := working_copy_of(path))} if _copies else {}
    each(lambda text: places[text][0].upload(places[text][1]), list(places))


def known_hash(path: Path | str) -> str:
    """Return the hash of a file's content where whoever put it at the run's URL reported it; else ""."""
    place = working_copy_of(path) if _copies else None
    return place[0].hash_of(place[1]) if place and place[0].is_shared(place[1]) else ""


def _is_current(path: str, known: Object) -> bool:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return stat.st_size == known.size and stat.st_mtime_ns == time_of(known)


def time_of(known: Object) -> int:
    """Return the time in ns that the copy of an object has: made of its identity."""
    digest = hashlib.blake2b(f"{known.size} {known.identity}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _LATEST


def _mark(path: str, known: Object) -> None:
    os.utime(path, ns=(time_of(known), time_of(known)))


_listed_for = ""
_recorded: list[Change] | None = None  # of the task that this process works on


def _record(change: Change) -> None:
    if _recorded is not None:
        _recorded.append(change)


@contextmanager
def _recording() -> Iterator[list[Change]]:
    global _recorded  # noqa: PLW0603 - a worker process does one task at a time
    _recorded = []
    try:
        yield _recorded
    finally:
        _recorded = None


class Recorded(Generic[Item, Result]):
    """A function for a worker process: returns its result, and what it put or removed at URLs.

    A worker process may have worked for an earlier stage: it lists anew what is at the URLs for each `Recorded`.
    """

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.function = function
        self._listed_for = secrets.token_hex(8)

    def __call__(self, item: Item) -> tuple[Result, list[Change]]:
        """Call the function."""
        global _listed_for  # noqa: PLW0603
        if _listed_for != self._listed_for:
            for copy in _copies.values():
                copy.refresh()
            _listed_for = self._listed_for
        with _recording() as changes:
            return self.function(item), changes


def apply_changes(changes: Iterable[Change]) -> None:
    """Take note of what worker processes put or removed."""
    by_url = {copy.url: copy for copy in _copies.values()}
    for change in changes:
        if change.url in by_url:
            by_url[change.url].set(change.name, change.object, change.hash)
