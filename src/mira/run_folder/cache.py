"""Results that can be computed again, kept under the hash of everything they follow from."""

import hashlib
from pathlib import Path
from types import TracebackType

from mira.run_folder.files import remove_others, write_bytes

__all__ = ["Cache"]

_SUM = 16  # bytes of the hash in front of an entry


class Cache:
    """A folder of entries, one file per key; a context manager.

    An entry carries a hash of its key and content. One that does not match is removed and counts as missing, so that
    damage costs time, never a wrong result. When the body ends without an error, entries that it did not ask for are
    removed.

    Args:
        folder: Where the entries are. It is created with the first of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: set[Path] = set()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._folder.is_dir():
            remove_others((p for p in self._folder.iterdir() if p.is_file()), self._used)

    def get(self, key: str) -> bytes | None:
        """Return the entry of a key; None where it is missing or damaged.

        Args:
            key: A hash, as `hash_json` returns it: it becomes a file name.
        """
        path = self._folder / key
        self._used.add(path)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[_SUM:]
        if data[:_SUM] == _sum(key, content):
            return content
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry under its key.

        Raises:
            OSError: It cannot be written.
        """
        path = self._folder / key
        self._used.add(path)
        write_bytes(path, _sum(key, content) + content)


def _sum(key: str, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SUM, person=key.encode()[:16]).digest()
