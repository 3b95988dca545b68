"""Where the files of a run lie: a folder, or any URL that fsspec can write to.

A file is an object here: it is put whole or not at all, and it is known by its size and an identity that follows from
its content. Nothing depends on clocks, which differ between machines.
"""

import errno
import hashlib
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from mira.errors import ConfigError, MiraError, install_hint
from mira.run_folder.trouble import code_of, told
from mira.urls import check_place, shown_place

__all__ = ["AT_ONCE", "Object", "Store", "UrlStore", "each", "hash_file", "one_wins"]

AT_ONCE = 16
"""Objects that are read or written at the same time."""

_RIVALS, _ROUNDS = 4, 3  # of the test whether one of several writers wins
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}  # no condition, no links
_TRIES = 5  # reads of an object that others are writing

# What a file system says of an object's content, most trusted first.
_IDENTITIES = ("ETag", "etag", "e_tag", "md5Hash", "content_md5", "crc32c", "checksum", "sha256")
_MOMENTS = ("mtime", "last_modified", "LastModified", "updated", "modified", "created")


Item = TypeVar("Item")
Result = TypeVar("Result")


class Object(NamedTuple):
    """What is known of an object without reading it.

    Attributes:
        size: Bytes.
        identity: Differs where the content does; no clock.
    """

    size: int
    identity: str


class Store(Protocol):
    """A place for objects by name, such as "index/wiki/part-0.parquet". Safe to use from several threads."""

    @property
    def url(self) -> str:
        """The place, without secrets."""
        ...

    def list(self, below: str = "", *, deep: bool = True) -> dict[str, Object]:
        """Return all objects whose name is `below` or begins with it and a slash; empty if none exist.

        Args:
            below: The folder, or one object.
            deep: Also those in folders of the folder.

        Raises:
            OSError: The place does not answer.
        """
        ...

    def stat(self, name: str) -> Object | None:
        """Return what is known of an object; None if it is not there."""
        ...

    def read(self, name: str) -> bytes:
        """Return an object's content.

        Raises:
            FileNotFoundError: It is not there.
            OSError: It cannot be read.
        """
        ...

    def read_part(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes of an object from `start` up to `stop`, fewer where it ends before.

        Raises:
            FileNotFoundError: It is not there.
            OSError: It cannot be read.
        """
        ...

    def fetch(self, name: str, path: Path, known: Object | None = None) -> Object:
        """Write an object's content to a local file, and return which version of it that is.

        Args:
            name: The object's name.
            path: The file.
            known: The version that was there lately, if known: saves a request.

        Raises:
            FileNotFoundError: It is not there.
            OSError: It cannot be read, or the file cannot be written.
        """
        ...

    def put(self, name: str, content: bytes | Path) -> Object:
        """Put an object, whole, in place of what is there.

        Args:
            name: Its name.
            content: Its content, or a local file that holds it.

        Raises:
            OSError: It cannot be written; what was there stays.
        """
        ...

    def put_new(self, name: str, content: bytes) -> bool:
        """Put an object that is not there yet. Of several writers, one wins where `conditional` holds.

        Returns:
            Whether it was put; False if it was there.
        """
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there do not matter."""
        ...

    def conditional(self) -> bool:
        """Return whether `put_new` lets one of several writers win. Tested once, with an object that is removed.

        Raises:
            OSError: The store does not answer.
        """
        ...


class UrlStore:
    """Objects below a URL, through fsspec. Credentials come from the environment, as the file system's package says.

    Args:
        url: Such as "s3://bucket/run". Nothing is asked yet.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._guard = threading.Lock()
        self._wins: bool | None = None

    @property
    def url(self) -> str:
        """The URL, without secrets."""
        return shown_place(self._url)

    @cached_property
    def _system(self) -> Any:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - takes a while, and few runs are at a URL

        check_place(self._url, "a place to write to")
        try:
            return url_to_fs(self._url, use_listings_cache=False)[0]
        except ImportError as error:
            hint = install_hint("s3") if self._url.startswith("s3") else "Install the package that it names."
            raise MiraError(f"{self.url}: {error}", hint) from None
        except ValueError as error:  # an unknown scheme
            raise ConfigError(f"{self.url}: {error}", "Name a bucket, such as s3://bucket/run, or a folder.") from None

    @cached_property
    def _root(self) -> str:
        return str(self._system._strip_protocol(self._url)).rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def list(self, below: str = "", *, deep: bool = True) -> dict[str, Object]:
        """Return all objects at or below a name."""
        with self._named(below):
            try:
                if deep:
                    listed = self._system.find(self._at(below), detail=True).values()
                else:
                    listed = self._system.ls(self._at(below), detail=True)
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                return {}
        start = len(self._root) + 1
        files = sorted((str(info["name"])[start:], info) for info in listed if info["type"] == "file")
        return {name: _of_info(info) for name, info in files if name and not name.endswith("/")}

    def stat(self, name: str) -> Object | None:
        """Return size and identity of an object; None if it is not there.

        s3fs asks again where it puts, reads and lists, but not here: so a burst of 503 is waited for here.
        """
        for attempt in range(_TRIES):
            try:
                with self._named(name):
                    info = self._system.info(self._at(name))
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == _TRIES - 1:
                    raise
                time.sleep(random.uniform(0.5, 1) * 2**attempt)
            else:
                return _of_info(info) if info.get("type") != "directory" else None
        raise AssertionError("a return or an error ends the loop")

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        with self._named(name):
            return bytes(self._system.cat_file(self._at(name)))

    def read_part(self, name: str, start: int, stop: int) -> bytes:
        """Return some bytes of an object."""
        with self._named(name):
            return bytes(self._system.cat_file(self._at(name), start=start, end=stop))

    def fetch(self, name: str, path: Path, known: Object | None = None) -> Object:
        """Write an object's content to a local file; read again if it was replaced meanwhile."""
        before = known or self.stat(name)
        for _ in range(_TRIES):
            with self._named(name):
                self._system.get_file(self._at(name), os.fspath(path))
            after = self.stat(name)
            if after is not None and after == before and path.stat().st_size == after.size:
                return after
            before = after
        raise OSError(errno.EBUSY, "it is written all the time", f"{self.url}/{name}")

    def put(self, name: str, content: bytes | Path) -> Object:
        """Put an object with one request, or in parts that appear together."""
        with self._named(name):
            if isinstance(content, bytes):
                self._system.pipe_file(self._at(name), content)
                size = len(content)
            else:
                size = content.stat().st_size
                self._system.put_file(os.fspath(content), self._at(name))
        there = self.stat(name)
        if there is None or there.size != size:
            what = "is not there" if there is None else f"has {there.size:,} bytes"
            raise OSError(errno.EIO, f"{size:,} bytes were put, and then it {what}", f"{self.url}/{name}")
        return there

    def put_new(self, name: str, content: bytes) -> bool:
        """Put an object on the condition that it is not there.

        An answer may get lost, and the client's second try then meets what the first one put: so content that no other
        writer puts (a worker's name in it) is known again as one's own.
        """
        for attempt in range(_TRIES):
            with self._named(name):
                try:
                    self._system.pipe_file(self._at(name), content, mode="create")
                except FileExistsError:
                    break
                except OSError as error:
                    if code_of(error) == "PreconditionFailed":
                        break
                    if code_of(error) != "ConditionalRequestConflict" or attempt == _TRIES - 1:
                        raise
                    time.sleep(random.uniform(0.05, 0.5))
                    continue
                return True
        try:
            return self.read(name) == content
        except FileNotFoundError:
            return False

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, several at once."""

        def one(name: str) -> None:
            with self._named(name), suppress(FileNotFoundError):
                self._system.rm_file(self._at(name))

        each(one, list(names))

    def conditional(self) -> bool:
        """Return whether one of several writers wins."""
        with self._guard:
            if self._wins is None:
                self._wins = one_wins(self)
            return self._wins

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Turn what a file system raises, each its own kinds, into an OSError of one line that names the object."""
        try:
            yield
        except MiraError:
            raise
        except Exception as error:
            raise told(error, f"{self._url}/{name}".rstrip("/")) from None


def hash_file(path: Path) -> str:
    """Return the hash of a file's content: 16 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return a function's results for all items, in order; it is called for several at once."""
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(function, items))


def _of_info(info: dict[str, Any]) -> Object:
    given = next((str(info[name]) for name in _IDENTITIES if info.get(name)), "")
    if not given:  # sftp:// and memory:// tell no more than when the object was written
        moment = next((info[name] for name in _MOMENTS if info.get(name)), "")
        given = repr(moment.timestamp() if isinstance(moment, datetime) else moment)
    return Object(int(info.get("size") or 0), given.strip('"'))


def one_wins(store: Store) -> bool:
    """Return whether `put_new` lets one of several writers win: try it a few times.

    Raises:
        OSError: The store does not answer, which says nothing of what it can do.
    """
    rounds = failed = 0
    while rounds < _ROUNDS:
        try:
            if not _one_wins(store):
                return False
            rounds += 1
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return False
            failed += 1
            if failed > _ROUNDS:
                raise
            time.sleep(random.uniform(0.5, 2))
    return True


def _one_wins(store: Store) -> bool:
    name = f"leases/probe-{secrets.token_hex(8)}"
    ready = threading.Barrier(_RIVALS)

    def rival(number: int) -> bool:
        ready.wait()
        return store.put_new(name, str(number).encode())

    try:
        with ThreadPoolExecutor(_RIVALS) as pool:
            won = list(pool.map(rival, range(_RIVALS)))
        return won.count(True) == 1 and store.read(name) == str(won.index(True)).encode()
    finally:
        with suppress(OSError):
            store.remove([name])
