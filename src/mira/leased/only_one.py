"""One command at a time in a run folder at a URL."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mira.errors import RunError
from mira.run_folder.files import write_bytes
from mira.run_folder.folder_store import store_of
from mira.run_folder.paths import RunFolder
from mira.run_folder.store import Store
from mira.run_folder.stored import StoredPath
from mira.sharing.lease import Leases, under

__all__ = ["alone_at_url", "only_one"]

_COMMAND = ("", "command")


@contextmanager
def alone_at_url(run: RunFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Let no other command work in a run folder at a URL; nothing for a folder of this machine.

    Args:
        run: The run folder. Its working copy is locked by this process.
        say: Takes notes.

    Raises:
        RunError: Another command is working there.
        OSError: The store does not answer.
    """
    if not isinstance(run.path, StoredPath):
        yield
        return
    place = run.path / ".place"  # a name for this working copy, which other machines' copies do not have
    if not place.exists():
        write_bytes(place, secrets.token_hex(8).encode())
    with only_one(store_of(run.path), place.read_text(), say):
        yield


@contextmanager
def only_one(store: Store, place: str, say: Callable[[str], None], *, beat_s: float | None = None) -> Iterator[None]:
    """Let one command at a time work in a run folder at a URL, on whatever machine.

    Args:
        store: The run folder.
        place: Names the working copy, which this process has locked.
        say: Takes notes.
        beat_s: Seconds between two beats.

    Raises:
        RunError: Another command is working there.
        OSError: The store does not answer.
    """
    if not store.conditional():
        say(f"{store.url}: no other command may work there meanwhile: this store cannot keep two of them apart.")
        yield
        return
    with Leases(store, "run", place=place, beat_s=beat_s) as leases:
        leases.survey()
        while not leases.take(*_COMMAND):
            if leases.is_beating(*_COMMAND):
                raise RunError(
                    f"{store.url}: another mira ({leases.holder(*_COMMAND)}) is working in this run folder",
                    "Wait for it, or stop it.",
                )
            leases.pause()
            leases.survey()
        with under(leases):
            yield
