"""The journal: every paid-for reply, on disk before it is used. See design/journal.md.

Files in a journal folder, all of which are read and one of which a process writes::

    <name>.jsonl.zst        replies; `zstd -dc` prints them
    <name>.failures.jsonl   requests that got no reply in the last run; they are requested again
    <name>.lock             held while a process writes; names its pid

The journal of a run at a URL is written in segments on this machine; see `mira.llm.journal.segments`. Of several
workers, each writes files of its own.
"""

import errno
import os
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import orjson

from mira.errors import MiraError, RunError, way_out
from mira.llm.journal.frames import pack
from mira.llm.journal.reader import OFFSET_BITS, JournalReader
from mira.llm.journal.segments import FAILURES, SUFFIX, Segments
from mira.llm.responses.reply import Reply
from mira.run_folder.lock import LockHeld, lock_file, unlock_file
from mira.run_folder.stored import StoredPath
from mira.sharing.worker import this_worker

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
        name: Name of the file to write: one per process at a time. A worker among several appends its own name.
        segmented: Whether to write segments; by default, if the folder is at a URL.

    Attributes:
        cut: Bytes of torn tail that were cut on opening.
        damaged: Damaged stretches that were found; the replies in them are requested again.
        recovered: Segments that a killed process had left on this machine, and that were sealed on opening.
        full: Whether the disk is full. What was written is safe (space was held back for replies in flight); no more
            requests should be sent.

    Raises:
        RunError: The folder cannot be written, or another process writes this file.
    """

    def __init__(self, folder: Path, name: str = "replies", *, segmented: bool | None = None) -> None:
        self.cut = self.recovered = 0
        self.full = False
        self._descriptor = self._end = self._lock = -1
        self._segments: Segments | None = None
        self._writing = threading.Lock()
        name += this_worker().label
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if isinstance(folder, StoredPath) if segmented is None else segmented:
                self._begin_segments(folder, name)
            else:
                self._take_file(folder, name)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            self._open(folder)
        except OSError as error:
            self._abandon()
            raise _unwritable(folder, error) from None

    def _take_file(self, folder: Path, name: str) -> None:
        for number in count(1):
            own = name if number == 1 else f"{name}-{number}"
            try:
                self._lock = _lock(folder / f"{own}.lock")
                break
            except RunError:
                if not this_worker().label:  # two workers may do the same shards, if somebody says so
                    raise
        self.path = folder / f"{own}{SUFFIX}"
        self._failures = folder / f"{own}{FAILURES}"
        self._ballast = folder / f".{own}.ballast"

    def _begin_segments(self, folder: Path, name: str) -> None:
        self._segments = Segments(folder, name, self._rotate)
        self.recovered = self._segments.recovered
        self.path = self._segments.next()
        self._failures, self._ballast = self._segments.failures, self._segments.ballast
        (folder / self._failures.name).unlink(missing_ok=True)

    def _open(self, folder: Path) -> None:
        self._descriptor = _open_file(self.path)
        super().__init__(folder, segmented=self._segments is not None)
        self._number = self._files.index(self.path)
        self._end = self._ends[self._number]
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RunError:
            if error is None:  # else the error is what is shown; `seal` named what is not sealed
                raise

    def close(self) -> None:
        """Let another process write this file; seal what is not sealed.

        Raises:
            RunError: It cannot be sealed. It is safe on this machine.
        """
        try:
            if self._segments is not None:
                self._segments.close()
        finally:
            self._release()

    def _abandon(self) -> None:
        if self._segments is not None:
            self._segments.abandon()
        self._release()

    def _release(self) -> None:
        self._segments = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._ballast.unlink(missing_ok=True)
        if self._lock >= 0:
            unlock_file(self._lock)
            self._lock = -1

    def seal(self) -> str:
        """Seal what is not sealed yet, in a run at a URL.

        Returns:
            A sentence about it, for people; "" for a journal that is not written in segments.
        """
        if self._segments is None:
            return ""
        try:
            self._segments.seal()
        except (OSError, MiraError) as error:
            unsealed = self._segments.unsealed(error)
            return f"{unsealed.message}. {unsealed.hint}"
        return f"All of them are sealed in {self.folder}."

    def _rotate(self) -> Path | None:
        """End the segment that is written and begin the next one."""
        with self._writing:
            if not self._end or self._segments is None:
                return None
            ended, begun = self.path, self._segments.next()
            descriptor = _open_file(begun)
            os.close(self._descriptor)
            self._descriptor, self.path = descriptor, begun
            with self._guard:
                self._number, self._end = len(self._files), 0
                self._files.append(begun)
                self._ends.append(0)
            return ended

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
        with self._writing:
            try:
                self._write(b"".join(blocks))
            except OSError as error:
                raise _unwritable(self.path, error) from None
            with self._guard:
                for i, block in enumerate(blocks):
                    keys = [key for key, _ in packed[i * FRAME_RECORDS : (i + 1) * FRAME_RECORDS]]
                    self._index.add(keys, self._number << OFFSET_BITS | self._end)
                    self._end += len(block)
        if self._segments is not None:
            self._segments.grown(sum(map(len, blocks)))

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


def _open_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


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
