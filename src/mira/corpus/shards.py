"""Shards: which files a source has, and how they are sliced.

- A path is a file, a glob (`**` goes into folders), a folder, or an fsspec URL of any of them. `find.py` says which
  files of a folder or glob are read.
- Formats by file name: `.jsonl`, `.ndjson`, `.json` (one object a line), each also with `.gz`, `.zst`, `.zstd`, `.bz2`
  or `.xz`; `.parquet`, `.pq`; `.arrow`. Another name in a path or glob is an error.
- A source's shards are in order of path, then of position, whatever the order in the config. A file that several
  paths match is taken once.
- A plain JSONL file larger than `shard_bytes` is sliced: slice k starts at the first line that starts at or after
  byte k * shard_bytes. Other files are one shard each.
- A shard is named after its file's path below the fixed part of its glob or folder, so that a corpus can be moved.
  Only files whose names would be the same, or those of mira's own files, have a hash of their whole path added.
- A local file's fingerprint is the hash of its content, remembered in the run folder under (path from there, size,
  mtime), so that a project can be moved without being read again; a
  remote one's is what its file system tells about it (ETag, size, time of change).
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs

from mira.config.settings import CorpusSettings, SourceSettings
from mira.corpus.files.find import Found, find, is_s3
from mira.corpus.files.formats import KNOWN, Format, format_of, without_extension
from mira.corpus.files.lines import is_remote, open_file
from mira.corpus.files.unchanged import file_state, remote_state
from mira.errors import ConfigError, InputError, MiraError, RunError, together, way_out
from mira.run_folder.files import hash_json, read_json, write_json
from mira.stage import Wanted, all_shards

__all__ = ["Format", "Shard", "described", "format_of", "shards"]

_S3_SETTINGS = " (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL for your own server)"
_LONGEST_NAME = 180  # with what is put before and after it, a file's name has 255 letters or less
_OWN_NAMES = ("duplicates", "dataset_info", "state")  # files beside the shards'
_LIKE_A_SLICE = re.compile(r"\.[0-9]{12}$")


@dataclass(frozen=True, slots=True)
class Shard:
    """A file, or a fixed slice of it: the unit of work.

    Attributes:
        source: Name of its source.
        path: Local path or fsspec URL.
        name: Safe as a file name and unique in its source; follows from the path and the slice alone.
        fingerprint: Hash of its content and slice.
        start: First byte of the slice, or None for a whole file.
        stop: Byte after the slice, or None for a whole file.
        first_line: Number of its first line in its file, counted from 1, or None where that is not known (slices of
            remote files).
        state: What its file was like when the fingerprint was made; "" where that is not known. See
            `mira.corpus.files.unchanged`.
    """

    source: str
    path: str
    name: str
    fingerprint: str
    start: int | None
    stop: int | None
    first_line: int | None = 1
    state: str = field(default="", compare=False)

    def where(self, row: int) -> str:
        """Return "path:line" of a row, for messages."""
        if self.first_line is None:
            return f"{self.path}:(line {row + 1} after byte {self.start})"
        return f"{self.path}:{self.first_line + row}"

    def check_unchanged(self) -> None:
        """Check that the file is still as it was when the shard was found: a look at its size and times, no reading.

        Whoever reads a shard checks it before and after, so that no other text is taken for the one that was indexed.

        Raises:
            RunError: The file has changed, or is gone.
        """
        try:
            same = not self.state or file_state(self.path) == self.state
        except FileNotFoundError:
            same = False
        if not same:
            raise RunError(
                f"source '{self.source}': {self.path} has changed while mira was at work",
                "Run again when nothing writes to it: mira run reads what has changed.",
            )


@dataclass(frozen=True, slots=True)
class _Slice:
    start: int | None
    stop: int | None
    first_line: int | None
    hash: str


def shards(corpus: CorpusSettings, *, again: bool = False, wanted: Wanted = all_shards) -> dict[str, list[Shard]]:
    """Find every source's shards.

    Args:
        corpus: How the corpus is read.
        again: Read every local file again, even one whose size and time have not changed.
        wanted: Source, name of a shard -> whether it is wanted.

    Returns:
        Source -> its wanted shards in order of path and position; sources in the config's order.

    Raises:
        ConfigError: Two sources have one name, or a URL's file system is not installed.
        InputError: A path matches nothing, cannot be read, or has an unknown format; the message lists all such
            sources.
    """
    found, wrong = find_shards(corpus, again=again)
    if wrong:
        raise together(list(wrong.values()))
    return {source: [s for s in parts if wanted(source, s.name)] for source, parts in found.items()}


def find_shards(corpus: CorpusSettings, *, again: bool = False) -> tuple[dict[str, list[Shard]], dict[str, MiraError]]:
    """Find the shards of every source whose files can be read.

    Args:
        corpus: How the corpus is read.
        again: As of `shards`.

    Returns:
        Source -> its shards; and source -> what is wrong with it. Both in the config's order.

    Raises:
        ConfigError: Two sources have one name.
    """
    names = Counter(s.name for s in corpus.sources)
    if doubled := [n for n, count in names.items() if count > 1]:
        raise ConfigError(f"sources: {len(doubled)} names are used twice: {', '.join(doubled)}", "Rename one of each.")
    cache = _Cache(Path(corpus.run) / "index" / ".fingerprints.json", empty=again)
    found: dict[str, list[Shard]] = {}
    wrong: dict[str, MiraError] = {}
    for source in corpus.sources:
        try:
            found[source.name] = _source_shards(corpus, source, cache)
        except MiraError as problem:
            wrong[source.name] = problem
    cache.save()
    return found, wrong


def described(source: SourceSettings, run: Path) -> str:
    """Say what of a source's paths is read and what is left out, in one line.

    Args:
        source: The source.
        run: The run folder, which is left out.

    Raises:
        InputError: As of `shards`.
    """
    found = _find(source, run)
    formats = Counter(format_of(path).extension.lower() for path in found.files)
    read = f"reads {len(found.files):,} file(s) ({_listed(formats)}), first {min(found.files)}"
    left = [f"{len(paths):,} {reason}, such as {min(paths)}" for reason, paths in sorted(found.left_out.items())]
    return f"{read}; leaves out {'; '.join(left)}" if left else read


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items()))


def _find(source: SourceSettings, run: Path) -> Found:
    found = Found()
    try:
        for path in [source.path] if isinstance(source.path, str) else source.path:
            found.add(_find_path(path, source.name, run))
    except OSError as error:
        raise InputError(
            f"source '{source.name}': {error.filename or source.path}: {error.strerror or error}",
            way_out(error, "Check the path and the right to read it."),
        ) from None
    return found


def _find_path(path: str, source: str, run: Path) -> Found:
    if is_remote(path):
        with _asking(path, source):
            found = _outside(find(path), f"{run}")
    else:
        found = _outside(find(path), os.path.normpath(str(run)))
    if not found.files:
        against = "what its file system lists" if is_remote(path) else str(Path.cwd())
        left = "; ".join(f"left out are {len(paths):,} {reason}" for reason, paths in sorted(found.left_out.items()))
        raise InputError(
            f"source '{source}': path '{path}' matches no file{f' ({left})' if left else ''}",
            f"Check it against {against}; files are known by their names: {KNOWN}.",
        )
    for file in found.files:
        format_of(file)
    return found


def _outside(found: Found, home: str) -> Found:
    """Leave out what a run wrote, where the run folder lies in a source's folder; a path into it is taken as it is."""
    for path, inside in list(found.files.items()):
        base = path.removesuffix(inside) or "."
        if not is_remote(path):
            path, base = os.path.normpath(path), os.path.normpath(base)  # noqa: PLW2901
        own = path.startswith(home + os.sep)
        if own and home.startswith(base.rstrip(os.sep) + os.sep):
            del found.files[path]
            found.left_out["files of the run folder"].append(path)
    return found


def _source_shards(corpus: CorpusSettings, source: SourceSettings, cache: "_Cache") -> list[Shard]:
    stems = {path: _stem(inside) for path, inside in _find(source, corpus.run).files.items()}
    counts = Counter(stem.lower() for stem in stems.values())
    try:
        return [
            shard
            for path, stem in sorted(stems.items())
            for shard in _file_shards(path, stem, counts[stem.lower()] > 1, source, corpus.shard_bytes, cache)
        ]
    except OSError as error:
        raise InputError(
            f"source '{source.name}': {error.filename or source.path}: {error.strerror or error}",
            way_out(error, "Check the path and the right to read it."),
        ) from None


def _file_shards(
    path: str, stem: str, doubled: bool, source: SourceSettings, shard_bytes: int, cache: "_Cache"
) -> Iterator[Shard]:
    if doubled or stem.lower() in _OWN_NAMES or _LIKE_A_SLICE.search(stem):
        stem = f"{stem}-{_short_hash(path)}"
    state = "" if is_remote(path) else file_state(path)
    for piece in _slices(path, shard_bytes, cache, source.name):
        name = stem if piece.start is None else f"{stem}.{piece.start:012d}"
        fingerprint = hash_json([piece.hash, piece.start, piece.stop, piece.first_line])
        yield Shard(
            source.name, path, name, fingerprint, piece.start, piece.stop, piece.first_line, state or piece.hash
        )


@contextmanager
def _asking(url: str, source: str) -> Iterator[None]:
    try:
        yield
    except MiraError:
        raise
    except Exception as error:  # every file system raises its own kinds
        said = str(error).strip().partition("\n")[0]
        raise InputError(
            f"source '{source}': {url}: {type(error).__name__}: {said}",
            f"Check the URL and your credentials for it{_S3_SETTINGS if is_s3(url) else ''}.",
        ) from None


def _stem(inside: str) -> str:
    plain = without_extension(inside.replace(os.sep, "/"))
    safe = re.sub(r"[^A-Za-z0-9._=+-]", "_", plain.replace("/", "__")).lstrip(".")
    exact = safe == plain and len(safe) <= 100
    fits = safe.replace("__", "/") == plain and len(safe) <= _LONGEST_NAME
    return safe if exact or fits else f"{safe[:100]}-{_short_hash(plain)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _slices(path: str, shard_bytes: int, cache: "_Cache", source: str) -> list[_Slice]:
    fmt = format_of(path)
    sliced = fmt.kind == "jsonl" and not fmt.compression
    if is_remote(path):
        with _asking(path, source):
            return _remote_slices(path, shard_bytes if sliced else None)
    stat = Path(path).stat()
    folder, name = os.path.split(path)
    key = f"{cache.place(folder)}/{name}|{stat.st_size}|{stat.st_mtime_ns}|{shard_bytes if sliced else 0}"
    known = cache.get(key)
    if known is None:
        with open_file(path) as file:
            ends = _ends(file, stat.st_size, shard_bytes if sliced else stat.st_size or 1)
            file.seek(0)
            known = _hash_slices(file, ends)
        cache.put(key, known)
    pieces = [_Slice(*values) for values in known]
    return pieces if len(pieces) > 1 else [_Slice(None, None, 1, p.hash) for p in pieces]


def _remote_slices(url: str, shard_bytes: int | None) -> list[_Slice]:
    fs, path = url_to_fs(url)
    state = remote_state(fs, path)
    size = fs.size(path)
    if shard_bytes is None or size is None or size <= shard_bytes:
        return [_Slice(None, None, 1, state)]
    with open_file(url) as file:
        ends = _ends(file, size, shard_bytes)
    starts = [0, *ends[:-1]]
    if len(ends) == 1:
        return [_Slice(None, None, 1, state)]
    return [_Slice(a, b, 1 if a == 0 else None, state) for a, b in zip(starts, ends, strict=True)]


def _ends(file: IO[bytes], size: int, shard_bytes: int) -> list[int]:
    """Return the bytes after each slice: the ends of the lines that hold the multiples of `shard_bytes`."""
    ends: list[int] = []
    nominal = shard_bytes
    while nominal < size:
        end = _line_end(file, nominal - 1, size)
        if end >= size:
            break
        ends.append(end)
        nominal = (end // shard_bytes + 1) * shard_bytes
    return [*ends, size]


def _line_end(file: IO[bytes], position: int, size: int) -> int:
    """Return the position after the first line break at or after `position`."""
    file.seek(position)
    while block := file.read(65536):
        at = block.find(b"\n")
        if at >= 0:
            return position + at + 1
        position += len(block)
    return size


def _hash_slices(file: IO[bytes], ends: list[int]) -> list[list[Any]]:
    slices: list[list[Any]] = []
    start, line = 0, 1
    for end in ends:
        digest, lines, left = hashlib.blake2b(digest_size=8), 0, end - start
        while left > 0 and (block := file.read(min(2**20, left))):
            digest.update(block)
            lines += block.count(b"\n")
            left -= len(block)
        slices.append([start, end, line, digest.hexdigest()])
        start, line = end, line + lines
    return slices


class _Cache:
    """Slices and hashes of local files, under (path from the cache's folder, size, mtime, shard_bytes)."""

    def __init__(self, path: Path, *, empty: bool = False) -> None:
        self._path, self._changed = path, False
        try:
            self._known: dict[str, list[list[Any]]] = read_json(path) if path.exists() and not empty else {}
        except (OSError, ValueError):
            self._known = {}
        self._used: dict[str, list[list[Any]]] = {}
        self._home = os.path.realpath(str(path.parent))
        self._places: dict[str, str] = {}

    def place(self, folder: str) -> str:
        """Return where a folder is as seen from the cache."""
        if folder not in self._places:
            self._places[folder] = os.path.relpath(os.path.realpath(folder), self._home)
        return self._places[folder]

    def get(self, key: str) -> list[list[Any]] | None:
        found = self._known.get(key)
        if found is not None:
            self._used[key] = found
        return found

    def put(self, key: str, value: list[list[Any]]) -> None:
        self._used[key], self._changed = value, True

    def save(self) -> None:
        if self._changed or self._used.keys() != self._known.keys():
            with suppress(OSError):  # it only saves time; a stage that cannot write says so itself
                write_json(self._path, self._used)
