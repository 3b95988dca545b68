"""A folder as a store: for leases of workers that share a file system."""

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mira.run_folder.files import hash_file, sync, write_bytes
from mira.run_folder.store import Object, Store, one_wins
from mira.run_folder.working_copy import working_copy_of

__all__ = ["FolderStore", "store_of"]


class FolderStore:
    """A folder of this machine, or one that several machines share.

    Args:
        path: The folder; created when something is put.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self._path)

    def list(self, below: str = "", *, deep: bool = True) -> dict[str, Object]:
        """Return all files at or below a name, hidden ones left out."""
        top = self._path / below if below else self._path
        if top.is_file():
            return {below: _of_file(top)}
        found = {}
        for at, folders, files in os.walk(top):
            folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
            for name in sorted(name for name in files if not name.startswith(".")):
                path = Path(at, name)
                with suppress(FileNotFoundError):  # removed meanwhile
                    found[path.relative_to(self._path).as_posix()] = _of_file(path)
        return found

    def stat(self, name: str) -> Object | None:
        """Return size and hash of a file; None if it is not there."""
        try:
            return _of_file(self._path / name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return (self._path / name).read_bytes()

    def read_part(self, name: str, start: int, stop: int) -> bytes:
        """Return some bytes of a file."""
        with (self._path / name).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def fetch(self, name: str, path: Path, known: Object | None = None) -> Object:
        """Copy a file."""
        path.write_bytes(self.read(name))
        return _of_file(path)

    def put(self, name: str, content: bytes | Path) -> Object:
        """Put a file in place atomically."""
        write_bytes(self._path / name, content if isinstance(content, bytes) else content.read_bytes())
        return _of_file(self._path / name)

    def put_new(self, name: str, content: bytes) -> bool:
        """Put a file in place that is not there yet: a link is made of it or is not, on shared file systems too."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            temporary.write_bytes(content)
            sync(temporary)
            os.link(temporary, path)
            sync(path.parent)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            (self._path / name).unlink(missing_ok=True)

    def conditional(self) -> bool:
        """Return whether the file system has links."""
        return one_wins(self)


def store_of(run: Path) -> Store:
    """Return where the files of a run folder are: at its URL, or in the folder itself."""
    place = working_copy_of(run)
    return place[0].store if place else FolderStore(run)


def _of_file(path: Path) -> Object:
    return Object(path.stat().st_size, hash_file(path))
