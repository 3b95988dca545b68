"""What is known of local files without reading them: where their slices lie, and the hashes of those.

`index/.fingerprints.json` of the run folder holds it, under (path from there, size, time of change, shard_bytes). Each
of several workers reads the slices of its own shards only, and notes them in `workers/files-<number>-of-<all>.json`.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mira.run_folder.files import read_json, write_json
from mira.run_folder.stored import StoredPath

__all__ = ["KnownFiles", "Piece"]


class Piece(NamedTuple):
    """A slice of a file.

    Attributes:
        start: Its first byte.
        stop: The byte after it.
        first_line: Number of its first line in the file, from 1; 0 where that is not known yet.
        hash: Hash of its content; "" where that is not known yet.
    """

    start: int
    stop: int
    first_line: int = 0
    hash: str = ""

    @property
    def complete(self) -> bool:
        """Whether all is known."""
        return bool(self.first_line and self.hash)


class KnownFiles:
    """What is known of files.

    Args:
        run: The run folder.
        worker: Name of this worker; "" for who works alone.
        empty: Begin with nothing.
    """

    def __init__(self, run: Path, worker: str = "", *, empty: bool = False) -> None:
        self._shared = run / "index" / ".fingerprints.json"
        self._others = run / "workers"
        self._own = self._others / f"files-{worker}.json" if worker else self._shared
        self._known: dict[str, list[Piece]] = {}
        self._all_read = empty
        if not empty:
            self._read(self._shared)
        if not empty and worker:
            self._read(self._own)
        self._before = dict(self._known)
        self._used: dict[str, list[Piece]] = {}
        # A run at a URL lies in another folder on every machine.
        self._home = "" if isinstance(run, StoredPath) else os.path.realpath(run / "index")
        self._places: dict[str, str] = {}

    def key(self, path: str, size: int, changed_ns: int, shard_bytes: int) -> str:
        """Return under which name a file is known.

        Args:
            path: The file.
            size: Its size in bytes.
            changed_ns: When it was changed.
            shard_bytes: Bytes per slice; 0 where the file is not sliced.
        """
        folder, name = os.path.split(path)
        if folder not in self._places:
            real = os.path.realpath(folder)
            self._places[folder] = os.path.relpath(real, self._home) if self._home else real
        return f"{self._places[folder]}/{name}|{size}|{changed_ns}|{shard_bytes}"

    def get(self, key: str, wanted: Callable[[Sequence[Piece]], Sequence[int]]) -> list[Piece]:
        """Return the pieces of a file; empty where nothing is known.

        Args:
            key: Its name.
            wanted: Returns the places of the pieces that matter. If one of them is not known, what all workers have
                noted is read, too.
        """
        there = self._known.get(key, [])
        if not self._all_read and not (there and all(there[at].complete for at in wanted(there))):
            self._all_read = True
            with suppress(OSError):
                for path in sorted(self._others.glob("files-*.json")):
                    self._read(path)
        found = self._known.get(key, [])
        if found:
            self._used[key] = found
        return found

    def put(self, key: str, pieces: Sequence[Piece]) -> None:
        """Note what was found of a file."""
        self._known[key] = self._used[key] = list(pieces)

    def save(self) -> None:
        """Write down what was found, if there is anything new. It only saves time, so that errors do not matter."""
        looked_at = {key.partition("|")[0] for key in self._used}
        kept = {key: pieces for key, pieces in self._before.items() if key.partition("|")[0] not in looked_at}
        found = kept | self._used
        if found != self._before:
            with suppress(OSError):
                write_json(self._own, {key: [list(piece) for piece in pieces] for key, pieces in found.items()})

    def _read(self, path: Path) -> None:
        try:
            listed = {key: [Piece(*piece) for piece in pieces] for key, pieces in read_json(path).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # missing, or not of this form
            return
        for key, pieces in listed.items():
            there = self._known.get(key, [])
            self._known[key] = _merged(there, pieces) if len(there) == len(pieces) else pieces


def _merged(one: Sequence[Piece], other: Sequence[Piece]) -> list[Piece]:
    return [
        Piece(a.start, a.stop, a.first_line or b.first_line, a.hash or b.hash) for a, b in zip(one, other, strict=True)
    ]
