"""The bytes of a journal file: groups of JSON lines in checksummed zstd frames.

A group is a skippable zstd frame that lists the keys, then one zstd frame with a JSON line a key. So `zstd -dc` prints
the lines, and an index is read without decompressing anything. See design/journal.md.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

__all__ = ["KEY_BYTES", "Damage", "Group", "pack", "read_group", "scan", "unpack"]

KEY_BYTES = 16
_MAGIC = 0x184D2A5A  # one of zstd's sixteen skippable frames
_MARK = b"miraJ001"
_HEAD = struct.Struct("<II8sIII")  # magic, payload size; mark, number of keys, bytes of the data frame, CRC of the keys
_SIGNATURE_AT = 8  # offset of the mark in the head


@dataclass(frozen=True, slots=True)
class Group:
    """One group in a journal file.

    Attributes:
        offset: Where its skippable frame starts.
        data: Where its data frame starts.
        end: Where it ends.
        keys: Its keys, one after the other.
    """

    offset: int
    data: int
    end: int
    keys: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes between `start` and `end` that hold no whole group; a torn tail when `end` is the file's end."""

    start: int
    end: int


def pack(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of one group.

    Args:
        entries: (key of 16 bytes, JSON line without newline), at least one.
    """
    keys = b"".join(key for key, _ in entries)
    lines = b"".join(line + b"\n" for _, line in entries)
    data = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)
    payload = _HEAD.size - 8 + len(keys)
    return _HEAD.pack(_MAGIC, payload, _MARK, len(entries), len(data), zlib.crc32(keys)) + keys + data


def unpack(data: bytes) -> list[bytes]:
    """Return the lines of a group's data frame.

    Raises:
        ValueError: The frame is damaged.
    """
    try:
        return zstandard.ZstdDecompressor().decompress(data).splitlines()
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def read_group(file: BinaryIO, offset: int, size: int) -> dict[bytes, bytes]:
    """Return key -> JSON line of the group at `offset`.

    Args:
        file: The journal, open for reading.
        offset: Where the group starts.
        size: The file's size in bytes.

    Raises:
        ValueError: The group is damaged.
    """
    group = _group_at(file, offset, size)
    if group is None:
        raise ValueError(f"no group at {offset}")
    file.seek(group.data)
    lines = unpack(file.read(group.end - group.data))
    keys = [group.keys[i : i + KEY_BYTES] for i in range(0, len(group.keys), KEY_BYTES)]
    return dict(zip(keys, lines, strict=True))


def scan(file: BinaryIO, size: int, position: int = 0) -> Iterator[Group | Damage]:
    """Walk a journal file's groups, reading keys only (the last group's data too: it may be torn).

    Args:
        file: The journal, open for reading.
        size: Its size in bytes.
        position: Where to start: at a group, or at the end of one.

    Yields:
        Groups, and the stretches between them that are none.
    """
    while position < size:
        group = _group_at(file, position, size)
        if group is not None:
            yield group
            position = group.end
        else:
            end = _next_group(file, position + 1, size)
            yield Damage(position, end)
            position = end


def _group_at(file: BinaryIO, position: int, size: int) -> Group | None:
    file.seek(position)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, payload, mark, count, data_bytes, crc = _HEAD.unpack(head)
    if magic != _MAGIC or mark != _MARK or payload != _HEAD.size - 8 + count * KEY_BYTES:
        return None
    keys = file.read(count * KEY_BYTES)
    data = position + _HEAD.size + len(keys)
    end = data + data_bytes
    if len(keys) < count * KEY_BYTES or zlib.crc32(keys) != crc or end > size:
        return None
    if end == size and not _whole(file.read(data_bytes), count):
        return None
    return Group(position, data, end, keys)


def _whole(data: bytes, count: int) -> bool:
    try:
        return len(unpack(data)) == count
    except ValueError:
        return False


def _next_group(file: BinaryIO, position: int, size: int) -> int:
    """Return where the next whole group after `position` starts, or `size`."""
    chunk = 1 << 20
    start = position
    while start < size:
        file.seek(start)
        block = file.read(chunk + _HEAD.size)
        found = block.find(_MARK)
        while found >= 0:
            candidate = start + found - _SIGNATURE_AT
            if candidate >= position and _group_at(file, candidate, size) is not None:
                return candidate
            found = block.find(_MARK, found + 1)
        start += chunk
    return size
