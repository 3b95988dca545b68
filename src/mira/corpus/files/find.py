"""Which files of a folder or glob are a source's: one rule for both, here and at URLs.

- Left out are names that start with "." or "_", and all that is in such folders (`.cache`, `_temporary`, `__MACOSX`);
  what a data set's library keeps beside the records (`dataset_info.json`, `cache-*.arrow`); and other formats.
  A glob that spells such a beginning out, as in `data/_old/*.jsonl`, or a file that is named itself, is read.
- A folder with a Hugging Face dataset's `state.json`, at any depth, gives the files that it names, and no others.
- Links are followed, each file and folder once. Broken links are left out.

Files that are left out are kept with their reason, to be reported.
"""

import fnmatch
import os
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
from fsspec.core import url_to_fs

from mira.corpus.files.formats import has_format
from mira.corpus.files.lines import is_remote
from mira.errors import ConfigError, InputError, install_hint

__all__ = ["Found", "find", "is_s3"]

_MAGIC = re.compile(r"[*?[]")
_METADATA = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json")
_OWN_CACHE = re.compile(r"cache-[^/]*\.arrow")


@dataclass(slots=True)
class Found:
    """Files of a source.

    Attributes:
        files: Path or URL -> its path below the folder or below the fixed part of the glob.
        left_out: Reason -> paths.
    """

    files: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, other: "Found") -> None:
        """Take another path's files in; a file that is there already, by whatever link, stays as it is."""
        real_path = _RealPaths()
        known = {real_path(path) for path in self.files}
        for path in sorted(other.files, key=lambda p: (not is_remote(p) and os.path.islink(p), p)):  # noqa: PTH114
            real = real_path(path)
            if real not in known:
                known.add(real)
                self.files[path] = other.files[path]
            elif path not in self.files:
                self.left_out["links to what is read already"].append(path)
        for reason, paths in other.left_out.items():
            self.left_out[reason].extend(paths)


class _RealPaths:
    """Real paths of files. The folders of many files are few, so each is resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        if is_remote(path):
            return path
        if os.path.islink(path):  # noqa: PTH114
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return f"{self._folders[folder].rstrip(os.sep)}{os.sep}{name}"


def find(path: str) -> Found:
    """Find the files of a path: a file, a folder, a glob, or an fsspec URL of any of them.

    Raises:
        InputError: A dataset's `state.json` is malformed or names files elsewhere, or the folder holds several splits.
        ConfigError: A URL holds a password, or its file system is not installed.
    """
    found = Found()
    found.add(_find_remote(path) if is_remote(path) else _find_local(str(Path(path).expanduser())))
    return found


def _find_local(path: str) -> Found:
    if Path(path).is_dir():
        return _sift(_Below(path, [], _read_local), _walk(path, []))
    if Path(path).exists() or not _MAGIC.search(path):
        return Found({os.path.normpath(path): Path(path).name} if Path(path).exists() else {})
    base = _fixed_part(path)
    pattern = [part for part in path[len(base) :].split("/") if part]
    return _sift(_Below(base or ".", pattern, _read_local), _walk(base or ".", pattern))


def _fixed_part(pattern: str) -> str:
    """Return the folder above a pattern's first wildcard, with its slash."""
    magic = _MAGIC.search(pattern)
    return pattern[: pattern.rfind("/", 0, magic.start()) + 1] if magic else pattern


@dataclass(frozen=True, slots=True)
class _Below:
    """A folder that is searched.

    Attributes:
        base: Its path or URL.
        pattern: What is wanted below it, by part; empty for everything.
        read: Returns the bytes of a file below it, by its path there; None if it is missing.
    """

    base: str
    pattern: list[str]
    read: Callable[[str, str], bytes | None]

    def wants(self, name: str, start: str) -> bool:
        """Return whether the pattern spells out a beginning that is otherwise left out."""
        return name.startswith(start) and any(part.startswith(start) for part in self.pattern)

    def path(self, inside: str) -> str:
        """Return the path of a file by its path below the base."""
        joined = f"{self.base.rstrip('/')}/{inside}"
        return joined if is_remote(self.base) else os.path.normpath(joined)


def _walk(base: str, pattern: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the path below `base` of everything that matches, with why it cannot be read, or "".

    Folders whose name is left out are yielded themselves, with a slash.
    """
    allowed = {part[0] for part in pattern if part[0] in "._"}
    seen = {os.path.realpath(base)}
    todo, links = [""], deque[str]()  # links last: a folder counts where it is, not where a link to it is
    while todo or links:
        inside = todo.pop() if todo else links.popleft()
        if inside and (real := os.path.realpath(os.path.join(base, inside))) in seen:  # noqa: PTH118
            yield inside.rstrip("/"), "links to what is read already"
            continue
        if inside:
            seen.add(real)
        with os.scandir(os.path.join(base, inside)) as entries:  # noqa: PTH118
            listed = sorted(entries, key=lambda e: e.name)
        for entry in listed:
            path = f"{inside}{entry.name}"
            parts = path.split("/")
            if not entry.is_dir():
                if not pattern or _matches(parts, pattern):
                    yield path, _unreadable(entry)
            elif pattern and not _may_hold(parts, pattern):
                continue
            elif entry.name[0] in "._" and entry.name[0] not in allowed:
                yield f"{path}/", ""
            else:
                (links if entry.is_symlink() else todo).append(f"{path}/")


def _unreadable(entry: os.DirEntry[str]) -> str:
    if entry.is_file():
        return ""
    return "broken links" if entry.is_symlink() else "no regular files"


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1)) or len(pattern) == 1
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _may_hold(parts: list[str], pattern: list[str]) -> bool:
    """Return whether something in a folder can match."""
    for i, part in enumerate(parts):
        if i >= len(pattern) or (pattern[i] != "**" and not fnmatch.fnmatchcase(part, pattern[i])):
            return False
        if pattern[i] == "**":
            return True
    return len(parts) < len(pattern)


def _read_local(base: str, inside: str) -> bytes | None:
    path = Path(base, inside)
    return path.read_bytes() if path.is_file() else None


def _sift(below: _Below, listed: Iterable[tuple[str, str]]) -> Found:
    """Sort what is there into what is read and what is left out."""
    found = Found()
    kept: list[str] = []
    for inside, why in listed:
        name = inside.rstrip("/").rpartition("/")[2]
        reason = why or _reason(below, inside, name)
        if reason:
            found.left_out[reason].append(below.path(inside))
        else:
            kept.append(inside)
    if not below.pattern:
        _check_splits(below, {str(PurePosixPath(inside).parent) for inside in kept} | {"."})
    named = _named(below, kept)
    for inside in kept:
        folder = next(
            (f for f in named if f in (".", str(PurePosixPath(inside).parent)) or inside.startswith(f"{f}/")), ""
        )
        if folder and inside not in named[folder]:
            found.left_out["files that state.json does not name"].append(below.path(inside))
        else:
            found.files[below.path(inside)] = inside
    return found


def _reason(below: _Below, inside: str, name: str) -> str:
    for part in inside.rstrip("/").split("/"):
        if part[0] in "._" and not below.wants(part, part[0]):
            return "names that start with . or _"
    if name in _METADATA:
        return "descriptions of data sets"
    if _OWN_CACHE.fullmatch(name) and not below.wants(name, "cache-"):
        return "caches of data sets (cache-*.arrow)"
    # a glob that matches a file of an unknown format is a mistake, which the caller tells of
    return "" if has_format(name) or below.pattern else f"{PurePosixPath(name).suffix or 'other'} files"


def _check_splits(below: _Below, folders: set[str]) -> None:
    for folder in sorted(folders | {str(parent) for f in folders for parent in PurePosixPath(f).parents}):
        described = _object(below, folder, "dataset_dict.json")
        if described is not None:
            listed = described.get("splits")
            splits = [str(s) for s in listed] if isinstance(listed, list) else []
            at = below.path(folder)
            raise InputError(
                f"{at}: holds the splits {', '.join(splits)} of a Hugging Face dataset",
                f"Point to one or several of them: {[f'{at}/{s}' for s in splits]}.",
            )


def _named(below: _Below, kept: list[str]) -> dict[str, set[str]]:
    """Return what the `state.json` of each dataset's folder names, by folder; of folders that hold Arrow files."""
    arrows = [PurePosixPath(inside) for inside in kept if inside.lower().endswith(".arrow")]
    named: dict[str, set[str]] = {}
    for folder in sorted({str(parent) for path in arrows for parent in path.parents}):
        state = _object(below, folder, "state.json")
        if state is not None and "_data_files" in state:
            names = _data_files(below.path(f"{folder}/state.json"), state["_data_files"])
            named[folder] = {str(PurePosixPath(folder, name)) for name in names}
            lost = sorted(named[folder] - set(kept)) if not below.pattern else []
            if lost:
                raise InputError(
                    f"{below.path(f'{folder}/state.json')}: names {lost[0]}, which is not there",
                    "Fetch or save the dataset again.",
                )
    return named


def _data_files(where: str, listed: Any) -> Iterator[str]:
    """Yield the names of a dataset's files; they stay in its folder."""
    for item in listed if isinstance(listed, list) else [None]:
        name = item.get("filename") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: '_data_files' is not a list of file names", "Save the dataset again.")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or "://" in name:
            raise InputError(f"{where}: names a file outside its folder: {name!r}", "Save the dataset again.")
        yield name


def _object(below: _Below, folder: str, name: str) -> dict[str, Any] | None:
    data = below.read(below.base, str(PurePosixPath(folder, name)))
    if data is None:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{below.path(f'{folder}/{name}')}: not JSON: {error}", "Save the dataset again.") from None
    return value if isinstance(value, dict) else None


def is_s3(url: str) -> bool:
    """Return whether a URL leads to S3."""
    return url.startswith(("s3://", "s3a://"))


def _find_remote(url: str) -> Found:
    if re.search(r"//[^/]*:[^/]*@", url):  # paths go into the index, the manifest and messages
        raise ConfigError(
            "a source's path holds a user name and password",
            "Take them out; credentials come from the environment or from fsspec's own configuration files.",
        )
    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        way_out = install_hint("s3") if is_s3(url) else "Install the package that it names, or check it."
        raise ConfigError(f"{url}: {error}", way_out) from None

    def read(base: str, inside: str) -> bytes | None:
        at = f"{fs._strip_protocol(base).rstrip('/')}/{inside}"
        return fs.cat_file(at) if fs.isfile(at) else None

    if _MAGIC.search(path):
        base, hits = _fixed_part(path), fs.glob(path)
        pattern = [part for part in path[len(base) :].split("/") if part]
    elif fs.isdir(path):
        base, hits, pattern = path.rstrip("/") + "/", fs.find(path), []
    else:
        there = fs.exists(path)
        _check_bucket(fs, url, path, there)
        return Found({fs.unstrip_protocol(path): path.rpartition("/")[2]} if there else {})
    _check_bucket(fs, url, path, bool(hits))
    inside = [(hit.removeprefix(base), "") for hit in hits if hit != base.rstrip("/")]
    return _sift(_Below(fs.unstrip_protocol(base), pattern, read), inside)


def _check_bucket(fs: Any, url: str, path: str, found: bool) -> None:
    bucket = path.partition("/")[0]
    if not found and is_s3(url) and not fs.exists(bucket):
        raise FileNotFoundError(f"there is no bucket '{bucket}', or you may not see it")
