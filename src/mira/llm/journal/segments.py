"""The journal of a run at a URL: written on this machine, sealed at the URL segment by segment.

Beside the working copy of the run, one folder per open journal::

    .journal/<token>/lock                                 held by the process that writes the others
    .journal/<token>/<name>-<token>-<number>.jsonl.zst    a segment, until it is sealed
    .journal/<token>/<name>.failures.jsonl

Sealing puts a segment at the URL under its name and removes it here. What a killed process left is sealed by the next
process that opens a journal of the run on this machine.
"""

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mira.errors import MiraError, RunError
from mira.llm.journal.frames import Damage, scan
from mira.run_folder.files import atomic
from mira.run_folder.lock import LockHeld, lock_file, unlock_file

__all__ = ["FAILURES", "SEAL_BYTES", "SEAL_S", "SUFFIX", "Segments", "scratch_of", "seal_leftovers", "unsealed"]

SUFFIX = ".jsonl.zst"
FAILURES = ".failures.jsonl"
SEAL_S, SEAL_BYTES = 60.0, 8 << 20
"""Seconds, and bytes, after which a segment is sealed (ours)."""

_RETRY_S = 5.0
_LAST_TRIES = 3
_LOCK = "lock"


def scratch_of(journal: Path) -> Path:
    """Return the folder of this machine in which the segments of a stored run's journal are written."""
    return Path(str(journal.parent)) / ".journal"  # str(): a path of this machine, nothing is fetched


def unsealed(journal: Path) -> list[Path]:
    """Return the segments that processes of this machine have not sealed yet."""
    return sorted(scratch_of(journal).glob(f"[!.]*/*{SUFFIX}"))


def seal_leftovers(journal: Path) -> int:
    """Seal what processes of this machine left when they were killed.

    Args:
        journal: The journal's folder.

    Returns:
        Segments that were sealed.

    Raises:
        OSError: One cannot be put; it stays.
    """
    count = 0
    for folder in sorted(scratch_of(journal).glob("[!.]*")):
        try:
            lock = lock_file(folder / _LOCK)
        except (LockHeld, FileNotFoundError, NotADirectoryError):  # at work, or sealed meanwhile
            continue
        try:
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                count += _seal(path, journal, _whole(path))
            for path in sorted(folder.glob(f"*{FAILURES}")):
                _seal(path, journal, path.stat().st_size)
            shutil.rmtree(folder)
        finally:
            unlock_file(lock)
    return count


def _whole(path: Path) -> int:
    """Return the bytes of a file without its torn tail."""
    size = path.stat().st_size
    with path.open("rb") as file:
        parts = list(scan(file, size))
    return parts[-1].start if parts and isinstance(parts[-1], Damage) else size


def _seal(path: Path, journal: Path, size: int) -> bool:
    """Put a file's first bytes at the URL and remove it here; return whether there were any."""
    if size:
        with atomic(journal / path.name) as temporary, path.open("rb") as file:
            temporary.write_bytes(file.read(size))
    path.unlink()
    return bool(size)


class Segments:
    """The segments of one open journal: where it writes, and what becomes of what it wrote.

    Args:
        journal: The journal's folder.
        name: The journal's name; that of segments begins with it.
        rotate: Ends the segment that is being written and begins the next one; returns the one that ended, None if
            nothing was in it.

    Raises:
        OSError: Nothing can be written here.
        RunError: What a killed process left cannot be sealed.
    """

    def __init__(self, journal: Path, name: str, rotate: Callable[[], Path | None]) -> None:
        self._journal, self._name, self._rotate = journal, name, rotate
        try:
            self.recovered = seal_leftovers(journal)
        except (OSError, MiraError) as error:
            raise _unsealed(journal, scratch_of(journal), error) from None
        self._token = secrets.token_hex(4)
        self._folder, self._lock = self._make()
        self.failures = self._folder / f"{name}{FAILURES}"
        self._number = 0
        self._failed = 0  # bytes of failures that are at the URL
        self._waiting: list[Path] = []
        self._bytes, self._since = 0, 0.0  # of what was written since the last segment ended
        self._guard, self._sealing = threading.Lock(), threading.Lock()
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._seal_on, name="mira-seal", daemon=True)
        self._thread.start()

    def _make(self) -> tuple[Path, int]:
        scratch = scratch_of(self._journal)
        made = scratch / f".new-{self._token}"
        made.mkdir(parents=True)
        lock = lock_file(made / _LOCK)
        return made.rename(scratch / self._token), lock  # visible to others only once it is locked

    def next(self) -> Path:
        """Return the path of the next segment."""
        self._number += 1
        return self._folder / f"{self._name}-{self._token}-{self._number:04d}{SUFFIX}"

    @property
    def ballast(self) -> Path:
        """Where space is held back for replies in flight."""
        return self._folder / "ballast"

    def grown(self, size: int) -> None:
        """Take note that so many bytes were written."""
        with self._guard:
            self._since = self._since if self._bytes else time.monotonic()
            self._bytes += size
            if self._bytes >= SEAL_BYTES:
                self._wake.set()

    def seal(self) -> None:
        """Seal all that was written.

        Raises:
            OSError: The store does not take it. It stays here, and is tried again.
        """
        with self._sealing:
            with self._guard:
                self._bytes = 0
            if ended := self._rotate():
                self._waiting.append(ended)
            while self._waiting:
                _seal(self._waiting[0], self._journal, self._waiting[0].stat().st_size)
                del self._waiting[0]
            self._seal_failures()

    def _seal_failures(self) -> None:
        size = self.failures.stat().st_size if self.failures.exists() else 0
        if size > self._failed:
            with atomic(self._journal / self.failures.name) as temporary:
                shutil.copyfile(self.failures, temporary)
            self._failed = size

    def _seal_on(self) -> None:
        while not self._over.is_set():
            self._wake.wait(self._due_in())
            self._wake.clear()
            if self._over.is_set() or self._due_in() > 0:
                continue
            try:
                self.seal()
            except (OSError, MiraError):  # the end of the work says so, if it is still so then
                self._over.wait(_RETRY_S)

    def _due_in(self) -> float:
        """Return the seconds until something is to be sealed."""
        with self._guard:
            if self._waiting or self._bytes >= SEAL_BYTES:
                return 0.0
            return max(0.0, self._since + SEAL_S - time.monotonic()) if self._bytes else SEAL_S

    def close(self) -> None:
        """Seal all that was written, and let the next process have what could not be.

        Raises:
            RunError: Something could not be sealed: says where it is.
        """
        self._over.set()
        self._wake.set()
        self._thread.join()
        try:
            for tries in range(1, _LAST_TRIES + 1):
                try:
                    self.seal()
                    break
                except (OSError, MiraError) as error:
                    if tries == _LAST_TRIES:
                        raise self.unsealed(error) from None
                    time.sleep(tries)
            shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            unlock_file(self._lock)

    def unsealed(self, error: Exception) -> RunError:
        """Return the error that says what is not at the URL, and where it is."""
        return _unsealed(self._journal, self._folder, error)

    def abandon(self) -> None:
        """Stop without sealing, after an error on opening."""
        self._over.set()
        self._wake.set()
        self._thread.join()
        with suppress(OSError):
            shutil.rmtree(self._folder)
        unlock_file(self._lock)


def _unsealed(journal: Path, folder: Path, error: Exception) -> RunError:
    said = error.message if isinstance(error, MiraError) else getattr(error, "strerror", None) or error
    return RunError(
        f"{journal}: cannot put replies there: {said}. They are safe in {folder}",
        "Run the same command again on this machine: it puts them there first, and requests none of them again.",
    )
