"""Receipts: a worker reports the hashes of what it put at a URL, so that nobody else needs to read it for them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mira.run_folder.working_copy import working_copy_of

__all__ = ["receipts"]

_EVERY_S = 60.0


@contextmanager
def receipts(path: Path, worker: str) -> Iterator[Callable[[], None]]:
    """Report what is put in a run folder at a URL meanwhile, also when the body raises; nothing for a folder.

    Args:
        path: The run folder.
        worker: Who reports, for people.

    Yields:
        A function to call now and then: it reports once a minute.
    """
    place = working_copy_of(path)
    last = time.monotonic()

    def report() -> None:
        nonlocal last
        if place and time.monotonic() - last > _EVERY_S:
            last = time.monotonic()
            place[0].write_receipt(worker)

    try:
        yield report
    finally:
        if place:
            place[0].write_receipt(worker)
