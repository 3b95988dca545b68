import bz2
import gzip
import hashlib
import lzma
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mira.corpus.files.lines import _BLOCKS as BLOCKS
from mira.corpus.files.lines import Damaged, TooLong, _split, read_lines

TEXT = b"\xef\xbb\xbf" + b'{"a": 1}\r\n\n  \t\n{"b": "\xe2\x80\xa8\x0b\x1c"}\n{"c": 3}'
LINES = [(0, b'{"a": 1}\r\n'), (3, b'{"b": "\xe2\x80\xa8\x0b\x1c"}\n'), (4, b'{"c": 3}')]


def lines(path: Path, compression: str = "", longest: int = 1000) -> list[tuple[int, object]]:
    return list(read_lines(str(path), compression, None, None, longest))


def test_blank_lines_bom_and_crlf(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(TEXT)
    assert lines(tmp_path / "a") == LINES


@pytest.mark.parametrize("tail", [b"", bytes(512)])
def test_gzip_members_one_after_the_other_and_padding(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(TEXT[:9]) + gzip.compress(b"") + gzip.compress(TEXT[9:]) + tail)
    assert lines(tmp_path / "a", "gz") == LINES


def test_zstd_frames_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(zstandard.compress(TEXT[:9]) + zstandard.compress(TEXT[9:]))
    assert lines(tmp_path / "a", "zst") == LINES


@pytest.mark.parametrize(
    ("compression", "damage"), [("gz", "cut"), ("gz", "flipped"), ("gz", "garbage"), ("zst", "cut"), ("zst", "garbage")]
)
def test_damage_comes_after_every_whole_line(tmp_path: Path, compression: str, damage: str) -> None:
    whole = [b'{"n": %d}\n' % (i * 2654435761 % 2**32) for i in range(60_000)]
    data = b"".join(whole)
    packed = gzip.compress(data) if compression == "gz" else zstandard.compress(data)
    half = len(packed) // 2
    bad = {
        "cut": packed[:half],
        "flipped": packed[:half] + bytes(b ^ 255 for b in packed[half : half + 64]) + packed[half + 64 :],
        "garbage": packed + b"garbage",
    }[damage]
    (tmp_path / "a").write_bytes(bad)
    found, rows = [], 0
    with pytest.raises(Damaged) as caught:
        for row, line in read_lines(str(tmp_path / "a"), compression, None, None, 1000):
            found.append(line)
            rows = row + 1
    assert caught.value.args[1] >= rows
    if damage != "flipped":  # a decompressor may put out wrong bytes before it notices
        assert caught.value.args[1] == rows == len(found)
        assert found == whole[: len(found)]
    assert len(found) == len(whole) if damage == "garbage" else len(found) > 1000


def test_a_line_that_is_too_long_is_told_by_its_length(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10 + b"\n" + b"y" * 11 + b"\r\n" + b"z" * 3_000_000 + b"\nend")
    found = lines(tmp_path / "a", longest=10)
    assert found == [(0, b"x" * 10 + b"\n"), (1, TooLong(11)), (2, TooLong(3_000_000)), (3, b"end")]
    assert isinstance(found[1][1], TooLong)
    assert isinstance(found[2][1], TooLong)


@given(st.lists(st.text("ab\r\n", max_size=12).map(str.encode)), st.integers(1, 8))
def test_splitting_does_not_depend_on_the_blocks(blocks: list[bytes], longest: int) -> None:
    whole = b"".join(blocks)
    expected = [piece + b"\n" for piece in whole.split(b"\n")]
    expected[-1] = expected[-1][:-1]
    told: list[object] = []
    for line in expected if expected[-1] else expected[:-1]:
        length = len(re.sub(rb"\r?\n$", b"", line))
        told.append(line if length <= longest else len(line))
    found = list(_split(iter(blocks), longest))
    assert [len(line) if isinstance(line, bytes) else "long" for line in found] == [
        len(line) if isinstance(line, bytes) else "long" for line in told
    ]
    assert b"".join(line for line in found if isinstance(line, bytes)) == b"".join(
        line for line in told if isinstance(line, bytes)
    )


@pytest.mark.parametrize(("name", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_bz2_and_xz_streams_one_after_the_other(tmp_path: Path, name: str, pack: Any) -> None:
    path = tmp_path / "in"
    path.write_bytes(pack(b"a\nb") + pack(b"c\nd\n"))
    assert list(read_lines(str(path), name, None, None, 100)) == [(0, b"a\n"), (1, b"bc\n"), (2, b"d\n")]
    whole = pack(b"".join(b"%d %s\n" % (i, hashlib.sha256(b"%d" % i).hexdigest().encode()) for i in range(5_000)))
    path.write_bytes(whole[:-1000])
    lines = []
    with pytest.raises(Damaged, match="ends early"):
        lines.extend(line for _, line in read_lines(str(path), name, None, None, 100))
    path.write_bytes(b"no such stream")
    with pytest.raises(Damaged, match="not compressed, or damaged"):
        list(read_lines(str(path), name, None, None, 100))


@pytest.mark.parametrize(
    ("compression", "size", "most"),
    [("gz", 2**22, 2**16), ("zst", 2**27, 2**25), ("bz2", 2**21, 2**16), ("xz", 2**21, 2**16)],
)
def test_a_bomb_is_cut_into_small_blocks(tmp_path: Path, compression: str, size: int, most: int) -> None:
    pack = {"gz": gzip.compress, "zst": zstandard.compress, "bz2": bz2.compress, "xz": lzma.compress}[compression]
    (tmp_path / "in").write_bytes(pack(b" " * size))
    with (tmp_path / "in").open("rb") as file:
        sizes = [len(block) for block in BLOCKS[compression](file, None)]
    assert sum(sizes) == size
    assert max(sizes) <= most
