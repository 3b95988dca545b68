"""The journal: every paid-for reply, on disk before it is used. See design/journal.md.

Files in a journal folder, all of which are read and one of which a process writes::

    <name>.jsonl.zst        replies; `zstd -dc` prints them
    <name>.failures.jsonl   requests that got no reply in the last run; they are requested again
    <name>.lock             held while a process writes; names its pid
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from mira.errors import RunError, way_out
from mira.llm.journal.frames import pack
from mira.llm.journal.reader import OFFSET_BITS, SUFFIX, JournalReader
from mira.llm.responses.reply import Reply
from mira.run_folder.lock import LockHeld, lock_file, unlock_file

__all__ = ["Entry", "Journal"]

FRAME_RECORDS = 256
_BALLAST_BYTES = 4 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Entry(NamedTuple):
    """A reply and the 16-byte key of its request; `tag` says for people what the request was about."""

    key: bytes
    tag: str
    reply: Reply


class Journal(JournalReader):
    """Replies by request key: a folder of append-only files, one of them written here.

    Opening cuts a torn tail off the written file and indexes all files; see `JournalReader`.

    Args:
        folder: The journal folder; created.
        name: Name of the file to write: one per process at a time.

    Attributes:
        cut: Bytes of torn tail that were cut on opening.
        damaged: Damaged stretches that were found; the replies in them are requested again.
        full: Whether the disk is full. What was written is safe (space was held back for replies in flight); no more
            requests should be sent.

    Raises:
        RunError: The folder cannot be written, or another process writes this file.
    """

    def __init__(self, folder: Path, name: str = "replies") -> None:
        self.path = folder / f"{name}{SUFFIX}"
        self.cut = 0
        self.full = False
        self._failures = folder / f"{name}.failures.jsonl"
        self._ballast = folder / f".{name}.ballast"
        self._descriptor = self._end = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / f"{name}.lock")
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            self._open(folder)
        except OSError as error:
            self.close()
            raise _unwritable(folder, error) from None

    def _open(self, folder: Path) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        super().__init__(folder)
        self._end = self._ends[self._files.index(self.path)]
        self.cut = os.fstat(self._descriptor).st_size - self._end
        os.ftruncate(self._descriptor, self._end)
        os.fsync(self._descriptor)
        self._failures.write_bytes(b"")
        with self._ballast.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # macOS lacks it
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
            else:
                file.write(bytes(_BALLAST_BYTES))

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
            RunError: They cannot be written, and the file is as before; or one of them cannot, and the others are.
        """
        packed, refused = _lines(entries)
        if packed:
            self._append(packed)
        if refused:
            raise RunError(f"{self.path}: {refused}", "The other replies are in the journal: run again to continue.")

    def _append(self, packed: Sequence[tuple[bytes, bytes]]) -> None:
        blocks = [pack(packed[i : i + FRAME_RECORDS]) for i in range(0, len(packed), FRAME_RECORDS)]
        try:
            self._write(b"".join(blocks))
        except OSError as error:
            raise _unwritable(self.path, error) from None
        number = self._files.index(self.path)
        with self._guard:
            for i, block in enumerate(blocks):
                keys = [key for key, _ in packed[i * FRAME_RECORDS : (i + 1) * FRAME_RECORDS]]
                self._index.add(keys, number << OFFSET_BITS | self._end)
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


def _lines(entries: Sequence[Entry]) -> tuple[list[tuple[bytes, bytes]], str]:
    """Return keys and lines of the entries that can be written, and what is wrong with the first that cannot."""
    lines, refused = [], ""
    for entry in entries:
        try:
            lines.append((entry.key, entry.reply.line(entry.key, entry.tag)))
        except (TypeError, ValueError) as error:  # a number beyond 64 bits, half a surrogate pair
            refused = refused or f"the reply about {entry.tag} cannot be written: {error}"
    return lines, refused


def _lock(path: Path) -> int:
    try:
        return lock_file(path)
    except LockHeld as held:
        raise RunError(
            f"{path.with_suffix('')}: another process writes this journal: {held.holder}",
            "Wait until it is done, or stop it; its replies stay in the journal.",
        ) from None


def _unwritable(path: Path, error: OSError) -> RunError:
    hint = "Make room on the disk, then run the same command again: it continues where it stopped."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "Make the folder writable or choose another one: replies are written down before they are used."
    return RunError(f"{path}: cannot write the journal: {error.strerror or error}", way_out(error, hint))
