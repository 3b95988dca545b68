"""File locks: one process at a time. The system releases a lock when its process ends, however it ends."""

import fcntl
import os
import socket
from pathlib import Path

__all__ = ["LockHeld", "holder_of", "lock_file", "unlock_file"]


class LockHeld(Exception):
    """Another process holds the lock.

    Attributes:
        holder: The process that holds it, for people: "process 123 on host".
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def lock_file(path: Path) -> int:
    """Lock a file and write into it which process holds it.

    Args:
        path: The file; created if it is missing.

    Returns:
        The descriptor that holds the lock, for `unlock_file`.

    Raises:
        LockHeld: Another process holds it.
        OSError: The file cannot be opened, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        os.close(descriptor)
        raise LockHeld(holder or "an unknown process") from None
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor


def unlock_file(descriptor: int) -> None:
    """Release a lock."""
    os.close(descriptor)


def holder_of(path: Path) -> str:
    """Return which process holds a lock, for people; "" if none does, or if that cannot be known. Writes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "an unknown process"
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return ""
