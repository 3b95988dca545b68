"""Scratch folders: removed at the end, and by the next process where theirs was killed."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mira.run_folder.lock import LockHeld, lock_file, unlock_file

__all__ = ["scratch_folder"]

_PREFIX = "mira-scratch-"
_LOCK = ".lock"
_UNLOCKED = "mira-distill-"  # made by mira before 0.2, without a lock
_UNLOCKED_S = 7 * 86400.0  # longer than any student took to train


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give an empty folder that is removed at the end, however the body ends.

    The folder is locked while it is in use. Folders that killed processes left behind are not, and are removed first.

    Args:
        parent: Where to make it; the system's folder for temporary files by default.

    Yields:
        The folder.
    """
    parent = parent or Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    made = Path(tempfile.mkdtemp(prefix=".mira-new-", dir=parent))
    lock = lock_file(made / _LOCK)
    folder = made.with_name(_PREFIX + made.name.removeprefix(".mira-new-"))
    try:
        made.rename(folder)  # visible to others only once it is locked
        (folder / "files").mkdir()
        yield folder / "files"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unlock_file(lock)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(LockHeld, OSError):  # in use, or somebody else's
            lock = lock_file(folder / _LOCK)
            shutil.rmtree(folder, ignore_errors=True)
            unlock_file(lock)
    for folder in parent.glob(f"{_UNLOCKED}*"):
        with suppress(OSError):
            if max(path.lstat().st_mtime for path in (folder, *folder.rglob("*"))) < time.time() - _UNLOCKED_S:
                shutil.rmtree(folder, ignore_errors=True)
