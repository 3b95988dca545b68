"""Bytes of JSONL files: opening, decompressing, and cutting into lines with bounded memory."""

import bz2
import errno
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import zstandard
from fsspec.core import url_to_fs

from mira.corpus.files.sniff import BOM, what_it_is

__all__ = ["Damaged", "Line", "TooLong", "is_remote", "open_file", "read_lines", "size_of"]

BLOCK = 2**20
# what a damaged stream gave in the call that found the damage is lost, so the calls are kept small
_UNZIPPED = 2**16
# a block of zstd is 4 bytes or more and gives 128 KiB or less: so no call gives more than 32 MiB
_ZSTD_READ = 2**10
_XZ_MEMORY = 2**30  # a dictionary of the highest preset takes 64 MiB
_URL = re.compile(r"([a-z][\w+.-]*::)*[a-z][\w+.-]*://", re.IGNORECASE)


class Damaged(Exception):
    """A compressed stream ends early or cannot be decompressed any further."""


class TooLong(int):
    """Stands for a line that was longer than allowed: its length in bytes, without its line break."""


Line = bytes | TooLong


def is_remote(path: str) -> bool:
    """Return whether a path is an fsspec URL."""
    return _URL.match(path) is not None


def open_file(path: str) -> IO[bytes]:
    """Open a local path or an fsspec URL for reading.

    Raises:
        OSError: It cannot be opened. Reading, too, raises nothing else, whatever the file system is.
    """
    return io.BufferedReader(_Remote(path), BLOCK) if is_remote(path) else Path(path).open("rb")


def size_of(path: str) -> int:
    """Return the bytes of a local file or an fsspec URL; 0 where they are not known."""
    if not is_remote(path):
        return Path(path).stat().st_size
    fs, inside = url_to_fs(path)
    return int(fs.size(inside) or 0)


class _Remote(io.RawIOBase):
    """A file at an fsspec URL. File systems raise their own kinds of errors; here they are OSErrors with its name."""

    def __init__(self, path: str) -> None:
        self._path = path
        with self._as_os_errors():
            self._file = cast(IO[bytes], fsspec.open(path, "rb").open())

    @contextmanager
    def _as_os_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            number = (error.errno if isinstance(error, OSError) else None) or errno.EIO
            said = str(error).strip().partition("\n")[0]
            raise OSError(number, f"{type(error).__name__}: {said}", self._path) from None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        with self._as_os_errors():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._as_os_errors():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()


def read_lines(
    path: str, compression: str, start: int | None, stop: int | None, longest: int
) -> Iterator[tuple[int, Line]]:
    """Yield the lines of a file or of a slice of it, each with its position, counted from 0.

    Lines come with their line break. Blank ones are left out but keep their position. A byte order mark at the start
    of the file is cut off.

    Args:
        path: Local path or fsspec URL.
        compression: "", "gz", "zst", "bz2" or "xz".
        start: First byte of the slice, which is the first of a line; None for the start of the file.
        stop: Byte after the slice; None for the end of the file.
        longest: Longest line in bytes; a longer one is yielded as `TooLong` without having been held in memory.

    Raises:
        Damaged: A compressed file ends early or is damaged; every line that is whole was yielded before. The
            exception's second argument is the position after the last of them.
        OSError: The file cannot be read.
    """
    with open_file(path) as file:
        if start:
            file.seek(start)
        blocks = _BLOCKS[compression](file, None if stop is None else stop - (start or 0))
        row = 0
        try:
            for line in _split(_without_bom(blocks) if not start else blocks, longest):
                if isinstance(line, TooLong) or not line.isspace():
                    yield row, line
                row += 1
        except (Damaged, zlib.error, zstandard.ZstdError, lzma.LZMAError, _BadBzip2) as error:
            raise Damaged(f"{error}{_instead(path, compression) if not row else ''}", row) from None


def _instead(path: str, compression: str) -> str:
    """Say what a file is that is not compressed as its name says; "" where it is."""
    with open_file(path) as file:
        found = what_it_is(file.read(BLOCK))
    named = {"gz": "gzip", "zst": "Zstandard", "bz2": "bzip2", "xz": "xz"}[compression]
    if found.startswith(named):
        return ""
    return f"; the file is {found or 'not compressed, or damaged from its start'}: rename or convert it"


def _without_bom(blocks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(BOM):
            break
    if head:
        yield head.removeprefix(BOM)
    yield from blocks


def _split(blocks: Iterator[bytes], longest: int) -> Iterator[Line]:
    held: list[bytes] = []
    size = 0
    for block in blocks:
        lines = block.splitlines(keepends=True) if b"\r" not in block else _split_lf(block)
        if not lines:
            continue
        last = lines.pop() if not lines[-1].endswith(b"\n") else None
        for line in lines:
            if size:
                held.append(line)
                yield _join(held, size + len(line), longest)
                held, size = [], 0
            else:
                yield line if len(line) <= longest else _join([line], len(line), longest)
        if last is not None:
            size += len(last)
            if size <= longest + 2:
                held.append(last)
    if size:
        yield _join(held, size, longest)


def _split_lf(block: bytes) -> list[bytes]:
    pieces = block.split(b"\n")
    last = pieces.pop()
    lines = [piece + b"\n" for piece in pieces]
    return [*lines, last] if last else lines


def _join(held: list[bytes], size: int, longest: int) -> Line:
    """Return the whole line, or its length where it was too long to be held."""
    line = b"".join(held)
    length = size - (2 if line.endswith(b"\r\n") else line.endswith(b"\n"))
    return line if length <= longest else TooLong(length)


def _plain(file: IO[bytes], size: int | None) -> Iterator[bytes]:
    left = size
    while block := file.read(BLOCK if left is None else min(BLOCK, left)):
        if left is not None:
            left -= len(block)
        yield block


def _gunzip(file: IO[bytes], _: int | None) -> Iterator[bytes]:
    """Decompress gzip members one after the other; zero bytes after the last are padding."""
    decompressor = None
    while data := file.read(BLOCK):
        while data:
            if decompressor is None and not (data := data.lstrip(b"\0")):
                break
            decompressor = decompressor or zlib.decompressobj(wbits=31)
            block = decompressor.decompress(data, _UNZIPPED)
            if block:
                yield block
            data = decompressor.unconsumed_tail
            if decompressor.eof:
                data, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        if rest := decompressor.flush():
            yield rest
        if not decompressor.eof:
            raise Damaged("the gzip stream ends early")


def _unzstd(file: IO[bytes], _: int | None) -> Iterator[bytes]:
    """Decompress zstd frames one after the other."""
    context = zstandard.ZstdDecompressor(max_window_size=2**31)
    decompressor: Any = None
    while data := file.read(_ZSTD_READ):
        while data:
            if decompressor is None:
                decompressor = context.decompressobj()
            if block := decompressor.decompress(data):
                yield block
            data = b""
            if decompressor.eof:
                data, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise Damaged("the zstd stream ends early")


class _BadBzip2(Exception):
    """The bzip2 module's word for damage is a bare OSError."""


def _unbz2(file: IO[bytes], _: int | None) -> Iterator[bytes]:
    """Decompress bzip2 streams one after the other, as pbzip2 writes them."""
    return _in_pieces(file, bz2.BZ2Decompressor, "bzip2")


def _unxz(file: IO[bytes], _: int | None) -> Iterator[bytes]:
    """Decompress xz streams one after the other; zero bytes after the last are padding."""
    return _in_pieces(file, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), "xz")


def _in_pieces(file: IO[bytes], fresh: Callable[[], Any], name: str) -> Iterator[bytes]:
    decompressor: Any = None
    while data := file.read(BLOCK):
        while data or (decompressor is not None and not decompressor.needs_input):
            if decompressor is None and not (data := data.lstrip(b"\0")):
                break
            decompressor = decompressor or fresh()
            try:
                block = decompressor.decompress(data, _UNZIPPED)
            except OSError as error:
                raise _BadBzip2(str(error)) from None
            if block:
                yield block
            data = b""
            if decompressor.eof:
                data, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise Damaged(f"the {name} stream ends early")


_BLOCKS = {"": _plain, "gz": _gunzip, "zst": _unzstd, "bz2": _unbz2, "xz": _unxz}
