"""Shards: which files a source has, and how they are sliced.

- A path is a file, a glob (`**` goes into folders), a folder, or an fsspec URL of any of them. A folder of a Hugging
  Face dataset gives its Arrow files; any other folder gives the files of known formats anywhere inside it.
- Formats by file name: `.jsonl`, `.ndjson`, `.json` (one object a line), each also with `.gz`, `.zst` or `.zstd`;
  `.parquet`, `.pq`; `.arrow`. Another name in a path or glob is an error.
- A source's shards are in order of path, then of position, whatever the order in the config. A file that several
  paths match is taken once.
- A plain JSONL file larger than `shard_bytes` is sliced: slice k starts at the first line that starts at or after
  byte k * shard_bytes. Other files are one shard each.
- A shard is named after its file's path below the fixed part of its glob or folder, so that a corpus can be moved.
  Only files whose names would be the same have a hash of their whole path added.
- A local file's fingerprint is the hash of its content, remembered in the run folder under (path, size, mtime); a
  remote one's is what its file system tells about it (ETag, size, time of change).
"""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs

from mira.config.settings import Config, SourceSettings
from mira.corpus.lines import is_remote, open_file
from mira.errors import ConfigError, InputError, MiraError, install_hint
from mira.run_folder.files import hash_json, read_json, write_json

__all__ = ["Format", "Shard", "format_of", "shards"]

_SUFFIX = re.compile(r"(\.(?:jsonl|ndjson|json)(?:\.(?:gz|zst|zstd))?|\.parquet|\.pq|\.arrow)$", re.IGNORECASE)
_KNOWN = ".jsonl, .ndjson, .json (each plain, .gz or .zst), .parquet, .pq, .arrow"
_S3_SETTINGS = " (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL for your own server)"
_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Format:
    """A file's format.

    Attributes:
        kind: "jsonl", "parquet" or "arrow".
        compression: "", "gz" or "zst"; of JSONL only.
        extension: As it is in the file's name: ".jsonl.gz".
    """

    kind: str
    compression: str
    extension: str


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
    """

    source: str
    path: str
    name: str
    fingerprint: str
    start: int | None
    stop: int | None
    first_line: int | None = 1

    def where(self, row: int) -> str:
        """Return "path:line" of a row, for messages."""
        if self.first_line is None:
            return f"{self.path}:(line {row + 1} after byte {self.start})"
        return f"{self.path}:{self.first_line + row}"


@dataclass(frozen=True, slots=True)
class _Slice:
    start: int | None
    stop: int | None
    first_line: int | None
    hash: str


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    stem: str


def format_of(path: str) -> Format:
    """Return the format that a file's name tells.

    Raises:
        InputError: The name tells none.
    """
    match = _SUFFIX.search(path)
    if match is None:
        raise InputError(f"{path}: unknown format", f"Known by the file's name are {_KNOWN}.")
    extension = match[1]
    first, _, second = extension[1:].lower().partition(".")
    kind = {"parquet": "parquet", "pq": "parquet", "arrow": "arrow"}.get(first, "jsonl")
    return Format(kind, {"zstd": "zst"}.get(second, second), extension)


def shards(config: Config) -> dict[str, list[Shard]]:
    """Find every source's shards.

    Returns:
        Source -> its shards in order of path and position; sources in the config's order.

    Raises:
        ConfigError: Two sources have one name, or a URL's file system is not installed.
        InputError: A path matches nothing, cannot be read, or has an unknown format.
    """
    names = Counter(s.name for s in config.sources)
    if doubled := [n for n, count in names.items() if count > 1]:
        raise ConfigError(f"sources: {len(doubled)} names are used twice: {', '.join(doubled)}", "Rename one of each.")
    cache = _Cache(Path(config.run) / "index" / ".fingerprints.json")
    found = {s.name: _source_shards(s, config.shard_bytes, cache) for s in config.sources}
    cache.save()
    return found


def _source_shards(source: SourceSettings, shard_bytes: int, cache: "_Cache") -> list[Shard]:
    paths = [source.path] if isinstance(source.path, str) else source.path
    files: dict[str, _File] = {}
    try:
        for path in paths:
            for file in _find(path, source.name):
                files.setdefault(file.path, file)
        stems = Counter(file.stem.lower() for file in files.values())
        ordered = sorted(files.values(), key=lambda f: f.path)
        return [
            shard for f in ordered for shard in _file_shards(f, stems[f.stem.lower()] > 1, source, shard_bytes, cache)
        ]
    except OSError as error:
        raise InputError(
            f"source '{source.name}': {error.filename or source.path}: {error.strerror or error}",
            "Check the path and the right to read it.",
        ) from None


def _file_shards(
    file: _File, doubled: bool, source: SourceSettings, shard_bytes: int, cache: "_Cache"
) -> Iterator[Shard]:
    stem = f"{file.stem}-{hashlib.sha256(file.path.encode()).hexdigest()[:8]}" if doubled else file.stem
    for piece in _slices(file.path, shard_bytes, cache, source.name):
        name = stem if piece.start is None else f"{stem}.{piece.start:012d}"
        fingerprint = hash_json([piece.hash, piece.start, piece.stop, piece.first_line])
        yield Shard(source.name, file.path, name, fingerprint, piece.start, piece.stop, piece.first_line)


def _find(path: str, source: str) -> list[_File]:
    found = _find_at(path, source) if is_remote(path) else _find_local(str(Path(path).expanduser()))
    if not found:
        against = "what its file system lists" if is_remote(path) else str(Path.cwd())
        raise InputError(
            f"source '{source}': path '{path}' matches no file",
            f"Check it against {against}; files are known by their names: {_KNOWN}.",
        )
    for file in found:
        format_of(file.path)
    return found


def _find_local(path: str) -> list[_File]:
    if Path(path).is_dir():
        return [_File(p, _stem(os.path.relpath(p, path))) for p in _in_folder(Path(path))]
    if Path(path).exists() or not _MAGIC.search(path):
        return [_File(os.path.normpath(path), _stem(Path(path).name))] if Path(path).exists() else []
    base = _fixed_part(path)
    hits = [os.path.normpath(p) for p in glob.glob(path, recursive=True) if Path(p).is_file()]  # noqa: PTH207
    return [_File(p, _stem(os.path.relpath(p, base or "."))) for p in hits]


def _fixed_part(pattern: str) -> str:
    """Return the folder above a pattern's first wildcard, with its slash."""
    magic = _MAGIC.search(pattern)
    return pattern[: pattern.rfind("/", 0, magic.start()) + 1] if magic else pattern


def _in_folder(folder: Path) -> list[str]:
    if (folder / "dataset_dict.json").is_file():
        splits = read_json(folder / "dataset_dict.json").get("splits", [])
        raise InputError(
            f"{folder}: holds the splits {', '.join(splits)} of a Hugging Face dataset",
            f"Point to one or several of them: {[str(folder / s) for s in splits]}.",
        )
    if (folder / "state.json").is_file():
        data = read_json(folder / "state.json").get("_data_files", [])
        return [os.path.normpath(folder / d["filename"]) for d in data]
    inside = (p for p in folder.rglob("*") if _SUFFIX.search(p.name) and not p.name.startswith("."))
    known = [os.path.normpath(p) for p in inside if p.is_file() and p.name not in ("dataset_info.json", "state.json")]
    return [p for p in known if p.endswith(".arrow")] or known


def _find_at(url: str, source: str) -> list[_File]:
    with _asking(url, source):
        return _find_remote(url)


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
            f"Check the URL and your credentials for it{_S3_SETTINGS if _is_s3(url) else ''}.",
        ) from None


def _is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))


def _find_remote(url: str) -> list[_File]:
    if re.search(r"//[^/]*:[^/]*@", url):  # paths go into the index, the manifest and messages
        raise ConfigError(
            "a source's path holds a user name and password",
            "Take them out; credentials come from the environment or from fsspec's own configuration files.",
        )
    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        way_out = install_hint("s3") if _is_s3(url) else "Install the package that it names, or check it."
        raise ConfigError(f"{url}: {error}", way_out) from None
    if _MAGIC.search(path):
        hits, base = fs.glob(path), _fixed_part(path)
    elif fs.isdir(path):
        hits, base = [p for p in fs.find(path) if _SUFFIX.search(p)], path.rstrip("/") + "/"
        hits = [p for p in hits if p.rpartition("/")[2] not in ("dataset_info.json", "state.json", "dataset_dict.json")]
    else:
        hits, base = [path] if fs.exists(path) else [], path.rpartition("/")[0] + "/"
    bucket = path.partition("/")[0]
    if not hits and _is_s3(url) and not fs.exists(bucket):
        raise FileNotFoundError(f"there is no bucket '{bucket}', or you may not see it")
    return [_File(fs.unstrip_protocol(p), _stem(p.removeprefix(base))) for p in hits]


def _stem(relative: str) -> str:
    plain = _SUFFIX.sub("", relative.replace(os.sep, "/"))
    safe = re.sub(r"[^A-Za-z0-9._=+-]", "_", plain.replace("/", "__")).lstrip(".")
    exact = safe == plain and len(safe) <= 100
    return safe if exact or safe.replace("__", "/") == plain else f"{safe[:100]}-{_short_hash(plain)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _slices(path: str, shard_bytes: int, cache: "_Cache", source: str) -> list[_Slice]:
    fmt = format_of(path)
    sliced = fmt.kind == "jsonl" and not fmt.compression
    if is_remote(path):
        with _asking(path, source):
            return _remote_slices(path, shard_bytes if sliced else None)
    stat = Path(path).stat()
    key = f"{Path(path).resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{shard_bytes if sliced else 0}"
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
    try:
        told = str(fs.checksum(path))
    except (NotImplementedError, AttributeError):
        told = str(fs.ukey(path))
    size = fs.size(path)
    if shard_bytes is None or size is None or size <= shard_bytes:
        return [_Slice(None, None, 1, told)]
    with open_file(url) as file:
        ends = _ends(file, size, shard_bytes)
    starts = [0, *ends[:-1]]
    if len(ends) == 1:
        return [_Slice(None, None, 1, told)]
    return [_Slice(a, b, 1 if a == 0 else None, told) for a, b in zip(starts, ends, strict=True)]


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
    """Slices and hashes of local files, under (path, size, mtime, shard_bytes)."""

    def __init__(self, path: Path) -> None:
        self._path, self._changed = path, False
        try:
            self._known: dict[str, list[list[Any]]] = read_json(path) if path.exists() else {}
        except (OSError, ValueError):
            self._known = {}
        self._used: dict[str, list[list[Any]]] = {}

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
