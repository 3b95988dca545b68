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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mira.config.settings import CorpusSettings, SourceSettings
from mira.corpus.files.find import Found, find, is_s3
from mira.corpus.files.formats import KNOWN, Format, format_of, without_extension
from mira.corpus.files.known import KnownFiles
from mira.corpus.files.lines import is_remote
from mira.corpus.files.slices import local_slices, remote_slices
from mira.corpus.files.unchanged import file_state
from mira.errors import ConfigError, InputError, MiraError, RunError, together, way_out
from mira.run_folder.files import hash_json
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


def shards(corpus: CorpusSettings, *, again: bool = False, wanted: Wanted = all_shards) -> dict[str, list[Shard]]:
    """Find every source's shards.

    Args:
        corpus: How the corpus is read.
        again: Read every local file again, even one whose size and time have not changed.
        wanted: The shards that are wanted. Of local files only these are read; in a file that is sliced, also what lies
            before them, because its lines are counted.

    Returns:
        Source -> its wanted shards in order of path and position; sources in the config's order.

    Raises:
        ConfigError: Two sources have one name, or a URL's file system is not installed.
        InputError: A path matches nothing, cannot be read, or has an unknown format; the message lists all such
            sources.
    """
    found, wrong = find_shards(corpus, again=again, wanted=wanted)
    if wrong:
        raise together(list(wrong.values()))
    return found


def find_shards(
    corpus: CorpusSettings, *, again: bool = False, wanted: Wanted = all_shards
) -> tuple[dict[str, list[Shard]], dict[str, MiraError]]:
    """Find the shards of every source whose files can be read.

    Args:
        corpus: How the corpus is read.
        again: As of `shards`.
        wanted: As of `shards`.

    Returns:
        Source -> its shards; and source -> what is wrong with it. Both in the config's order.

    Raises:
        ConfigError: Two sources have one name.
    """
    names = Counter(s.name for s in corpus.sources)
    if doubled := [n for n, count in names.items() if count > 1]:
        raise ConfigError(f"sources: {len(doubled)} names are used twice: {', '.join(doubled)}", "Rename one of each.")
    worker = "" if wanted.of == 1 else f"{wanted.index}-of-{wanted.of}"
    known = KnownFiles(corpus.run, worker, empty=again)
    found: dict[str, list[Shard]] = {}
    wrong: dict[str, MiraError] = {}
    for source in corpus.sources:
        try:
            found[source.name] = _source_shards(corpus, source, known, wanted)
        except MiraError as problem:
            wrong[source.name] = problem
    known.save()
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


def _source_shards(corpus: CorpusSettings, source: SourceSettings, known: KnownFiles, wanted: Wanted) -> list[Shard]:
    stems = {path: _stem(inside) for path, inside in _find(source, corpus.run).files.items()}
    counts = Counter(stem.lower() for stem in stems.values())
    try:
        return [
            shard
            for path, stem in sorted(stems.items())
            for shard in _file_shards(path, stem, counts[stem.lower()] > 1, source, corpus.shard_bytes, known, wanted)
        ]
    except OSError as error:
        raise InputError(
            f"source '{source.name}': {error.filename or source.path}: {error.strerror or error}",
            way_out(error, "Check the path and the right to read it."),
        ) from None


def _file_shards(
    path: str,
    stem: str,
    doubled: bool,
    source: SourceSettings,
    shard_bytes: int,
    known: KnownFiles,
    wanted: Wanted,
) -> Iterator[Shard]:
    if doubled or stem.lower() in _OWN_NAMES or _LIKE_A_SLICE.search(stem):
        stem = f"{stem}-{_short_hash(path)}"

    def name_of(start: int | None) -> str:
        return stem if start is None else f"{stem}.{start:012d}"

    def is_wanted(start: int | None) -> bool:
        return wanted(source.name, name_of(start))

    fmt = format_of(path)
    sliced = shard_bytes if fmt.kind == "jsonl" and not fmt.compression else 0
    state = "" if is_remote(path) else file_state(path)  # before it is read: a change meanwhile is noticed
    if is_remote(path):
        with _asking(path, source.name):
            found = remote_slices(path, sliced, is_wanted)
    else:
        found = local_slices(path, sliced, known, is_wanted)
    for piece in found:
        fingerprint = hash_json([piece.hash, piece.start, piece.stop, piece.first_line])
        yield Shard(
            source.name,
            path,
            name_of(piece.start),
            fingerprint,
            piece.start,
            piece.stop,
            piece.first_line,
            state or piece.hash,
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
