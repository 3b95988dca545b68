"""Slices of a file: where they begin and end, and the hash of what is in them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fsspec.core import url_to_fs

from mira.corpus.files.known import KnownFiles, Piece
from mira.corpus.files.lines import open_file
from mira.corpus.files.unchanged import remote_state

__all__ = ["Slice", "local_slices", "remote_slices"]

IsWanted = Callable[[int | None], bool]
"""First byte of a slice, None for a whole file -> whether it is wanted."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice of a file, or a whole file.

    Attributes:
        start: First byte, or None for a whole file.
        stop: Byte after it, or None for a whole file.
        first_line: Number of its first line, from 1; None where that is not known.
        hash: Hash of its content, or what a remote file system says of the file.
    """

    start: int | None
    stop: int | None
    first_line: int | None
    hash: str


def local_slices(path: str, shard_bytes: int, known: KnownFiles, wanted: IsWanted) -> list[Slice]:
    """Return the wanted slices of a local file. Nothing is read where they are known, or where none is wanted.

    Args:
        path: The file.
        shard_bytes: Bytes per slice; 0 where the file is not sliced.
        known: What is known of files; gets what is found now.
        wanted: Which slices are wanted.

    Raises:
        OSError: The file cannot be read.
    """
    stat = Path(path).stat()
    if not 0 < shard_bytes < stat.st_size and not wanted(None):
        return []

    def places(pieces: Sequence[Piece]) -> list[int]:
        starts = [piece.start for piece in pieces] if len(pieces) > 1 else [None] * len(pieces)
        return [at for at, start in enumerate(starts) if wanted(start)]

    key = known.key(path, stat.st_size, stat.st_mtime_ns, shard_bytes)
    pieces = known.get(key, places)
    if not pieces or not all(pieces[at].complete for at in places(pieces)):
        with open_file(path) as file:
            if not pieces:
                ends = _ends(file, stat.st_size, shard_bytes or stat.st_size or 1)
                pieces = [Piece(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            pieces = _completed(file, pieces, places(pieces))
        known.put(key, pieces)
    chosen = [pieces[at] for at in places(pieces)]
    if len(pieces) == 1:
        return [Slice(None, None, 1, piece.hash) for piece in chosen]
    return [Slice(piece.start, piece.stop, piece.first_line, piece.hash) for piece in chosen]


def remote_slices(url: str, shard_bytes: int, wanted: IsWanted) -> list[Slice]:
    """Return the wanted slices of a remote file, which is not read but for the line breaks where slices end.

    Args:
        url: The file.
        shard_bytes: Bytes per slice; 0 where the file is not sliced.
        wanted: Which slices are wanted.

    Raises:
        Exception: What its file system raises.
    """
    fs, path = url_to_fs(url)
    size = fs.size(path) if shard_bytes else None
    ends: list[int] = []
    if size is not None and size > shard_bytes:
        with open_file(url) as file:
            ends = _ends(file, size, shard_bytes)
    if len(ends) <= 1:
        return [Slice(None, None, 1, remote_state(fs, path))] if wanted(None) else []
    chosen = [(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True) if wanted(a)]
    state = remote_state(fs, path) if chosen else ""
    return [Slice(a, b, 1 if a == 0 else None, state) for a, b in chosen]


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


def _completed(file: IO[bytes], given: Sequence[Piece], wanted: Sequence[int]) -> list[Piece]:
    """Hash the wanted pieces, and count the lines before them as far as nobody has.

    Args:
        file: The file.
        given: All its pieces, in order.
        wanted: Places of those that are wanted, ascending.
    """
    pieces = [given[0]._replace(first_line=1), *given[1:]]
    todo = [at for at in wanted if not pieces[at].complete]
    if not todo:
        return pieces
    at = max(at for at in range(todo[0] + 1) if pieces[at].first_line)
    while at <= todo[-1]:
        piece, hashed = pieces[at], at in wanted and not pieces[at].hash
        counted = at + 1 < len(pieces) and not pieces[at + 1].first_line
        if hashed or counted:
            digest, lines = _read(file, piece, hashed=hashed)
            pieces[at] = piece._replace(hash=digest or piece.hash)
            if counted:
                pieces[at + 1] = pieces[at + 1]._replace(first_line=piece.first_line + lines)
        at += 1
    return pieces


def _read(file: IO[bytes], piece: Piece, *, hashed: bool) -> tuple[str, int]:
    """Return the hash of a piece, "" if it is not asked for, and the number of its line breaks."""
    file.seek(piece.start)
    digest, lines, left = hashlib.blake2b(digest_size=8), 0, piece.stop - piece.start
    while left > 0 and (block := file.read(min(2**20, left))):
        if hashed:
            digest.update(block)
        lines += block.count(b"\n")
        left -= len(block)
    return digest.hexdigest() if hashed else "", lines
