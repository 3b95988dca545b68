"""Paths of a run folder at a URL.

All of mira works with paths. Those of a run at a URL lie in its working copy on this machine: a path exists if its
object does, reading it fetches the object on first use, and what `atomic` puts in place is put at the URL before it
counts as there.
"""

import fnmatch
import os
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PosixPath
from typing import Any

from mira.run_folder.working_copy import WorkingCopy, fetch, upload, working_copy, working_copy_of

__all__ = ["StoredPath", "is_url", "place_path", "run_path"]

_ENDS = "SHA256SUMS"  # of a folder that is put at the URL: what says that the rest is whole comes last
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:::[A-Za-z0-9+.-]+)*://")


def is_url(path: Path | str) -> bool:
    """Return whether a path is a URL."""
    return bool(_SCHEME.match(str(path)))


def run_path(given: Path | str) -> Path:
    """Return the path of a run folder: a path of this machine as it is, of a URL that of its working copy.

    Nothing is asked or made yet.
    """
    text = str(given)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return stored_path(text, "") if is_url(text) else Path(given)


def place_path(given: Path | str, above: int = 1) -> Path:
    """Return the path of a file or folder outside of a run, such as a bundle or a page; URLs may be given.

    Args:
        given: A path of this machine, which is returned as it is, or a URL.
        above: Folders of the URL above it that the path shall have, if there are that many: those of a bundle's run.

    Nothing is asked or made yet.
    """
    text = str(given).rstrip("/")
    if not is_url(text) or text.startswith("file://"):
        return run_path(given)
    scheme, _, rest = text.partition("://")
    parts = rest.split("/")
    inside = min(above, len(parts) - 1)
    if inside < 1:  # a bucket, which has nothing above it
        return stored_path(text, "")
    return stored_path(f"{scheme}://{'/'.join(parts[:-inside])}", "/".join(parts[-inside:]))


def stored_path(url: str, name: str) -> "StoredPath":
    """Return the path of an object of a run folder at a URL."""
    return StoredPath(working_copy(url).path(name))


class StoredPath(PosixPath):
    """A path in the working copy of a run folder at a URL. See the module."""

    __slots__ = ()

    def __fspath__(self) -> str:
        """Return the path of the copy, which is brought up to date first."""
        if place := working_copy_of(self):
            place[0].fetch(place[1])
        return str(self)

    def __format__(self, spec: str) -> str:
        """Return the URL, for people: f"{path}" in a message. `str(path)` is the path of the copy."""
        place = working_copy_of(self)
        text = f"{place[0].store.url}/{place[1]}".rstrip("/") if place else str(self)
        return format(text, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as URL and name: another machine has its own working copy."""
        place = working_copy_of(self)
        return (stored_path, (place[0].url, place[1])) if place else (PosixPath, (str(self),))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the object, or any below it, is there."""
        copy, name = self._shared()
        if copy is None:
            return os.path.exists(str(self)) if follow_symlinks else os.path.lexists(str(self))  # noqa: PTH110
        return copy.find(name) is not None or copy.is_folder(name)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the object is there."""
        copy, name = self._shared()
        if copy is None:
            return os.path.isfile(str(self))  # noqa: PTH113
        return copy.find(name) is not None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there are objects below it."""
        copy, name = self._shared()
        if copy is None or not name:
            return os.path.isdir(str(self))  # noqa: PTH112
        return copy.is_folder(name)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the folder here; a URL needs no folders."""
        os.makedirs(str(self), mode, exist_ok=True)  # noqa: PTH103

    def iterdir(self) -> Generator["StoredPath", None, None]:
        """Yield what is directly below: objects, folders of them, and what is of this machine alone."""
        copy, name = self._shared()
        if copy is None:
            yield from (self / entry for entry in sorted(os.listdir(str(self))))  # noqa: PTH208
            return
        start = len(name) + 1 if name else 0
        there = {inside[start:].partition("/")[0] for inside in copy.below(name)}
        with suppress(OSError):
            there |= {e for e in os.listdir(str(self)) if not copy.is_shared(f"{name}/{e}" if name else e)}  # noqa: PTH208
        yield from (self / entry for entry in sorted(there))

    def glob(self, pattern: str, **_: Any) -> Iterator["StoredPath"]:  # type: ignore[override]
        """Yield what matches below it, sorted: parts match as in `fnmatch`."""
        parts = [part for part in pattern.split("/") if part]
        found = [self]
        for depth, part in enumerate(parts):
            inner = (
                path for folder in found if folder.is_dir() for path in folder.iterdir() if _matches(path.name, part)
            )
            last = depth == len(parts) - 1 and not pattern.endswith("/")
            found = [path for path in inner if last or path.is_dir()]
        yield from found

    def rglob(self, pattern: str, **_: Any) -> Iterator["StoredPath"]:  # type: ignore[override]
        """Yield everything below it whose name matches."""
        for path in self.iterdir() if self.is_dir() else ():
            if _matches(path.name, pattern):
                yield path
            yield from path.rglob(pattern)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object and its copy."""
        if not missing_ok and not self.exists():
            raise FileNotFoundError(2, os.strerror(2), str(self))
        if place := working_copy_of(self):
            place[0].remove([place[1]])

    def replace(self, target: "Path | str") -> "StoredPath":  # type: ignore[override]
        """Move a file or folder of this machine to a name of the run, or the reverse."""
        new = StoredPath(target)
        copy, _ = self._shared()
        names, old = self._names_at(), new._names_at()
        if copy is not None:
            fetch(copy.path(inside) for inside in names)
        if not old and os.path.isdir(str(new)) and new._shared()[0] is not None:  # noqa: PTH112
            shutil.rmtree(str(new))  # what is left here of a folder that is gone
        os.replace(str(self), str(new))  # noqa: PTH105
        new_copy, _ = new._shared()
        if new_copy is not None:
            files = sorted(_files(str(new)), key=lambda path: (path.rpartition("/")[2] == _ENDS, path))
            upload([Path(path) for path in files[:-1]])
            upload([Path(path) for path in files[-1:]])
            kept = {path[len(new_copy.root) + 1 :] for path in files}
            new_copy.remove(inside for inside in old if inside not in kept)
        if copy is not None:
            copy.remove(names)
        return new

    def rename(self, target: "Path | str") -> "StoredPath":  # type: ignore[override]
        """Do as `replace` does."""
        return self.replace(target)

    def _names_at(self) -> list[str]:
        copy, name = self._shared()
        if copy is None:
            return []
        return [name] if copy.find(name) is not None else copy.below(name)

    def _shared(self) -> tuple[WorkingCopy | None, str]:
        """Return working copy and name; no copy if the path is of this machine alone."""
        place = working_copy_of(self)
        if place is None or not place[0].is_shared(place[1] or "run"):
            return None, ""
        return place

    def remove_tree(self) -> None:
        """Remove the folder: its objects and its copy."""
        copy, name = self._shared()
        if copy is not None:
            copy.remove(copy.below(name))
        if os.path.isdir(str(self)):  # noqa: PTH112
            shutil.rmtree(str(self))


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):  # noqa: PTH112
        return [path]
    return [f"{at}/{name}" for at, _, names in os.walk(path) for name in names]


@lru_cache(maxsize=256)
def _pattern(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(part))


def _matches(name: str, part: str) -> bool:
    return bool(_pattern(part).match(name))
