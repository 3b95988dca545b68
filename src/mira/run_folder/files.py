"""Atomic writes and content hashes: the only way mira puts a file in place."""

import errno
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.run_folder.ranged import read_footer
from mira.run_folder.store import hash_file as read_hash
from mira.run_folder.stored import StoredPath
from mira.run_folder.working_copy import known_hash, upload

__all__ = [
    "KEY",
    "atomic",
    "check_writable",
    "hash_file",
    "hash_json",
    "hash_path",
    "read_json",
    "read_key",
    "read_sealed",
    "remove_folder",
    "remove_others",
    "sha256_file",
    "sync",
    "together",
    "write_bytes",
    "write_json",
    "write_parquet",
    "write_sealed",
]

_SYNCS = 16  # files that the disk is asked for at once
_LONGEST_NAME = 200  # bytes of the final name that a temporary name repeats

KEY = b"mira.key"
"""Where the metadata of a Parquet file tell what the file follows from."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success fsync it and rename it into place, or put it at the run's URL.

    The temporary name is of this write alone: threads and processes may write one path at once, and the last one stays.

    Args:
        path: The final path. Its folder is created.

    Yields:
        A temporary path in the same folder. It is removed when the body raises.

    Raises:
        OSError: The file cannot be written; nothing is left at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}.{secrets.token_hex(6)}.tmp")
    group: _Group | None = getattr(_own, "group", None)
    try:
        if group is None:
            yield temporary
            sync(temporary)
            _put_in_place(temporary, path)
            sync(path.parent)
            upload([path])
            return
        group.depth += 1
        try:
            yield temporary
        finally:
            group.depth -= 1
        group.add(temporary, path)
    finally:
        if group is None or (temporary, path) not in group.waiting:
            temporary.unlink(missing_ok=True)


@contextmanager
def together() -> Iterator[None]:
    """Put the files that this thread writes in place at the end, all at once: waiting for the disk is shared.

    The order holds: a file that is written inside the `atomic` of another one (kept records inside their sidecar) can
    be read at once, and the outer file, which says that both are there, is put in place once both are on the disk. At
    an error, what was finished before it is put in place.

    Raises:
        OSError: Files cannot be put in place.
    """
    if getattr(_own, "group", None) is not None:
        yield
        return
    group = _own.group = _Group()
    try:
        yield
    finally:
        _own.group = None
        group.finish()


class _Group:
    """Files that are written and wait to be put in place."""

    def __init__(self) -> None:
        self.depth = 0
        self.waiting: dict[tuple[Path, Path], None] = {}
        self._inner: dict[Path, None] = {}

    def add(self, temporary: Path, path: Path) -> None:
        if self.depth:
            _put_in_place(temporary, path)
            self._inner[path] = None
        else:
            self.waiting[temporary, path] = None

    def finish(self) -> None:
        """Wait for the disk, then put the outer files in place."""
        try:
            inner = [path for path in self._inner if os.path.exists(str(path))]  # noqa: PTH110
            _sync_all([*inner, *(temporary for temporary, _ in self.waiting)])
            _sync_all({path.parent for path in inner})
            upload(inner)
            for temporary, path in self.waiting:
                _put_in_place(temporary, path)
            _sync_all({path.parent for _, path in self.waiting})
            upload(path for _, path in self.waiting)
        finally:
            for temporary, _ in self.waiting:
                temporary.unlink(missing_ok=True)


_own = threading.local()


def _put_in_place(temporary: Path, path: Path) -> None:
    os.replace(str(temporary), str(path))  # noqa: PTH105 - of a run at a URL, what is there need not be fetched first


def _short(name: str) -> str:
    """Cut a name so that what is put around it still fits in the 255 bytes of a file name."""
    return name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore")


def check_writable(folder: Path) -> None:
    """Check, without writing anything, that files can be put into a folder; it need not be there yet.

    Raises:
        OSError: They cannot; names the folder that does not allow it.
    """
    there = Path(str(folder))
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk; what is put at a URL need not be."""
    if isinstance(path, StoredPath):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(paths: Collection[Path]) -> None:
    """Wait until all are on the disk; the disk is asked for several at once."""
    paths = [path for path in paths if not isinstance(path, StoredPath)]
    if len(paths) <= 1:
        for path in paths:
            sync(path)
        return
    listed = list(paths)
    with ThreadPoolExecutor(_SYNCS) as pool:
        list(pool.map(_sync_each, [listed[start::_SYNCS] for start in range(min(_SYNCS, len(listed)))]))


def _sync_each(paths: Iterable[Path]) -> None:
    for path in paths:
        sync(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    write_bytes(path, orjson.dumps(value, option=options))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return orjson.loads(path.read_bytes())


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON with a hash of their own, for `read_sealed`."""
    write_json(path, {**facts, "sum": hash_json(facts)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `write_sealed` wrote; empty if the file is missing or damaged."""
    try:
        found: dict[str, Any] = read_json(path)
        facts = {name: value for name, value in found.items() if name != "sum"}
        return facts if found["sum"] == hash_json(facts) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write `table` as zstd Parquet, atomically. The bytes depend on the table alone."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_key(path: Path) -> str:
    """Return what a Parquet file carries under `KEY`; "" if the file is missing or damaged."""
    try:
        return str((read_footer(path).metadata or {}).get(KEY, b"").decode())
    except (OSError, pa.ArrowException):
        return ""


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it.

    Raises:
        OSError: Something in it cannot be removed; names the folder.
    """
    try:
        if isinstance(folder, StoredPath):
            folder.remove_tree()
        else:
            shutil.rmtree(folder)
    except OSError as error:  # which may name a file without its folder
        raise OSError(error.errno, error.strerror, str(folder)) from None


def remove_others(found: Iterable[Path], wanted: Collection[Path]) -> None:
    """Remove the files that are not wanted any more."""
    for path in list(found):
        if path not in wanted:
            path.unlink(missing_ok=True)


def hash_json(value: Any) -> str:
    """Return the hash of a JSON value, independent of key order: 16 hex digits."""
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def hash_file(path: Path) -> str:
    """Return the hash of a file's content: 16 hex digits. Of a run at a URL, whoever put the file may have said it."""
    return known_hash(path) or read_hash(path)


def hash_path(path: Path) -> str:
    """Return the hash of a file's content, or of a folder's files with their names: 16 hex digits."""
    if not path.is_dir():
        return hash_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return hash_json([[file.relative_to(path).as_posix(), hash_file(file)] for file in files])


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
