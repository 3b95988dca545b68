"""The journal: every paid-for reply, on disk before it is used. See design/journal.md.

Files in a journal folder, all of which are read and one of which a process writes::

    <name>.jsonl.zst        replies; `zstd -dc` prints them
    <name>.failures.jsonl   requests that got no reply in the last run; they are asked again
    <name>.lock             held while a process writes; names its pid
"""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from mira.errors import RunError, way_out
from mira.llm.journal.frames import KEY_BYTES, Damage, Group, pack, read_group, scan
from mira.llm.journal.index import Index
from mira.llm.responses.reply import Reply
from mira.run_folder.lock import LockHeld, lock_file, unlock_file

__all__ = ["Entry", "Journal", "read_keys"]

FRAME_RECORDS = 256
_SUFFIX = ".jsonl.zst"
_OFFSET_BITS = 48
_CACHED_FRAMES = 64
_BALLAST_BYTES = 4 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Entry(NamedTuple):
    """A reply and the 16-byte key of its request; `tag` says for people what the request was about."""

    key: bytes
    tag: str
    reply: Reply


class Journal:
    """Replies by request key: a folder of append-only files, one of them written here.

    Opening cuts a torn tail off the written file and indexes all files: 16 bytes a reply in memory and nothing
    decompressed, so 50 million replies take 0.8 GB.

    Args:
        folder: The journal folder; created.
        name: Name of the file to write: one a process at a time.

    Attributes:
        cut: Bytes of torn tail that were cut on opening.
        damaged: Damaged stretches that were found; the replies in them are asked again.
        full: Whether the disk is full. What was written is safe (space was held back for replies in flight); no more
            requests should be sent.

    Raises:
        RunError: The folder cannot be written, or another process writes this file.
    """

    def __init__(self, folder: Path, name: str = "replies") -> None:
        self.folder, self.path = folder, folder / f"{name}{_SUFFIX}"
        self.cut = self.damaged = 0
        self.full = False
        self._guard = threading.Lock()
        self._files: list[Path] = []
        self._index = Index()
        self._frames: OrderedDict[tuple[int, int], dict[bytes, bytes]] = OrderedDict()
        self._failures = folder / f"{name}.failures.jsonl"
        self._ballast = folder / f".{name}.ballast"
        self._descriptor = self._end = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / f"{name}.lock")
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            self._open()
        except OSError as error:
            self.close()
            raise _unwritable(folder, error) from None

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            self._read_index(path)
        os.ftruncate(self._descriptor, self._end)
        os.fsync(self._descriptor)
        self._failures.write_bytes(b"")
        with self._ballast.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # macOS lacks it
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
            else:
                file.write(bytes(_BALLAST_BYTES))

    def _read_index(self, path: Path) -> None:
        number = len(self._files)
        self._files.append(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            parts = list(scan(file, size))
        groups = [part for part in parts if isinstance(part, Group)]
        counts = [len(group.keys) // KEY_BYTES for group in groups]
        offsets = np.array([number << _OFFSET_BITS | group.offset for group in groups], np.uint64)
        self._index.extend(b"".join(group.keys for group in groups), np.repeat(offsets, counts))
        torn = [part.start for part in parts[-1:] if isinstance(part, Damage)]
        self.damaged += len(parts) - len(groups) - len(torn)
        if path == self.path:
            self._end = torn[0] if torn else size
            self.cut = size - self._end

    def __len__(self) -> int:
        """Number of replies, in all files of the folder."""
        return len(self._index)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process write this file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._ballast.unlink(missing_ok=True)
        if self._lock >= 0:
            unlock_file(self._lock)
            self._lock = -1

    def append(self, entries: Sequence[Entry]) -> None:
        """Write replies durably: when this returns they survive a crash of the machine.

        One write and one fsync for all of them, in frames of at most 256 replies. May be called from any one thread
        at a time.

        Raises:
            RunError: They cannot be written. The file is as before.
        """
        if not entries:
            return
        packed = [(e.key, e.reply.line(e.key, e.tag)) for e in entries]
        blocks = [pack(packed[i : i + FRAME_RECORDS]) for i in range(0, len(packed), FRAME_RECORDS)]
        try:
            self._write(b"".join(blocks))
        except OSError as error:
            raise _unwritable(self.path, error) from None
        number = self._files.index(self.path)
        with self._guard:
            for i, block in enumerate(blocks):
                keys = [key for key, _ in packed[i * FRAME_RECORDS : (i + 1) * FRAME_RECORDS]]
                self._index.add(keys, number << _OFFSET_BITS | self._end)
                self._end += len(block)

    def _write(self, data: bytes) -> None:
        try:
            self._put(data)
        except OSError as error:
            if error.errno not in _FULL or self.full:
                raise
            self.full = True
            self._ballast.unlink(missing_ok=True)
            self._put(data)

    def _put(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self._end + written)
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise

    def fail(self, failures: Sequence[dict[str, Any]]) -> None:
        """Note requests that got no reply. They are not replies: the next run asks them again.

        Raises:
            RunError: They cannot be written.
        """
        try:
            with self._failures.open("ab") as file:
                file.write(b"".join(orjson.dumps(f) + b"\n" for f in failures))
        except OSError as error:
            raise _unwritable(self._failures, error) from None

    def count(self, keys: Collection[bytes]) -> int:
        """Return how many of the keys there are replies for; nothing is decompressed."""
        with self._guard:
            return len(self._index.find(keys))

    def find(self, keys: Collection[bytes]) -> dict[bytes, Reply]:
        """Return the replies there are, by key; of one that is there twice the last. Failed generations are none.

        Cheap when neighbouring keys were written together: frames are decompressed once.
        """
        with self._guard:
            located = self._index.find(keys)
        if not located:
            return {}
        found = {}
        for location, key in sorted((location, key) for key, location in located.items()):
            line = self._frame(location >> _OFFSET_BITS, location & ((1 << _OFFSET_BITS) - 1)).get(key)
            if line is None:
                continue
            reply = Reply.from_line(orjson.loads(line))
            if not reply.failed:  # older journals hold these as replies
                found[key] = reply
        return found

    def _frame(self, number: int, offset: int) -> dict[bytes, bytes]:
        place = (number, offset)
        if place in self._frames:
            self._frames.move_to_end(place)
            return self._frames[place]
        try:
            with self._files[number].open("rb") as file:
                frame = read_group(file, offset, os.fstat(file.fileno()).st_size)
        except ValueError:
            frame = {}
            self.damaged += 1
        self._frames[place] = frame
        if len(self._frames) > _CACHED_FRAMES:
            self._frames.popitem(last=False)
        return frame


def read_keys(folder: Path) -> Index:
    """Index the request keys of a journal folder without opening it: another process may be writing there."""
    index = Index()
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with path.open("rb") as file:
            keys = b"".join(part.keys for part in scan(file, path.stat().st_size) if isinstance(part, Group))
        index.extend(keys, np.zeros(len(keys) // KEY_BYTES, np.uint64))
    return index


def _lock(path: Path) -> int:
    try:
        return lock_file(path)
    except LockHeld as held:
        raise RunError(
            f"{path.with_suffix('')}: another process writes this journal: {held.holder}",
            "Wait until it is done, or stop it; what it paid for stays in the journal.",
        ) from None


def _unwritable(path: Path, error: OSError) -> RunError:
    hint = "Make room on the disk, then run the same command again: it goes on where it stopped."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "Make the folder writable or choose another one: replies are written down before they are used."
    return RunError(f"{path}: cannot write the journal: {error.strerror or error}", way_out(error, hint))
