"""Trying a place before anything is spent: can what will be put there be put there?"""

import errno
import secrets
from pathlib import Path

from mira.errors import RunError, way_out
from mira.run_folder.working_copy import given_as, working_copy_of
from mira.urls import check_place

__all__ = ["check_reachable", "probe"]


def probe(path: Path | str, what: str) -> None:
    """Check, before anything is spent, that a file or folder can be written: by its form and, at a URL, by trying it.

    Args:
        path: Where something is to be written.
        what: The option, for the message.

    Raises:
        ConfigError: It is not a place to write to.
        RunError: The URL does not take what is put there.
    """
    check_place(given_as(path), what)
    if place := working_copy_of(path):
        check_reachable(Path(place[0].root), f"{what}: nothing can be put there")


def check_reachable(path: Path, problem: str = "cannot be used as a run folder") -> None:
    """Check that a run folder at a URL can be listed, written and read, before anything is spent.

    Args:
        path: The run folder, or another folder that is written to.
        problem: What it means if it cannot, for the message.

    Raises:
        RunError: It cannot; says why in one line, and what to do.
    """
    place = working_copy_of(path)
    if place is None:
        return
    store, name = place[0].store, f"leases/probe-{secrets.token_hex(8)}"
    try:
        store.list("", deep=False)
        store.put(name, b"probe")
        if store.read(name) != b"probe":
            raise OSError(errno.EIO, "what was put is not what is read", f"{store.url}/{name}")
        store.remove([name])
    except OSError as error:
        raise RunError(
            f"{store.url}: {problem}: {error.strerror}", way_out(error, "Check the URL and the network.")
        ) from None
