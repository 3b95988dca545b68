"""What a file or a line is when it is not what its name says."""

import codecs

__all__ = ["BOM", "encoding_of", "what_it_is", "without_bom"]

BOM = codecs.BOM_UTF8
_MAGIC = (
    (b"\x1f\x8b", "gzip data (.gz)"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data (.zst)"),
    (b"BZh", "bzip2 data (.bz2)"),
    (b"\xfd7zXZ\0", "xz data (.xz)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a Parquet file (.parquet)"),
    (b"ARROW1", "an Arrow file (.arrow)"),
    (b"\xff\xff\xff\xff", "an Arrow stream (.arrow)"),
    (b"SQLite format 3", "an SQLite database"),
)
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_UTF_BOMS = (  # the longer first: the mark of UTF-32-LE starts with that of UTF-16-LE
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
)


def without_bom(line: bytes) -> bytes:
    """Return a line without byte order marks at its start: files that were joined have them in the middle."""
    while line.startswith(BOM):
        line = line[len(BOM) :]
    return line


def what_it_is(head: bytes) -> str:
    """Say what data are by their first bytes; "" where that is not known.

    Args:
        head: The first bytes of a file or line.
    """
    found = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
    if not found and head[:2] in _ZLIB:
        found = "zlib data"
    if not found and (encoding := encoding_of(head)):
        found = f"{encoding} text"
    if not found and head[:1] in (b"{", b"[") and b"\0" not in head:
        found = "plain text"
    return found


def encoding_of(data: bytes) -> str:
    """Return "UTF-16-LE" and the like of text that is so encoded, by its byte order mark or zero bytes; else ""."""
    for mark, name in _UTF_BOMS:
        if data.startswith(mark):
            return name
    # a line of UTF-16 is cut beside its line break, so zero bytes may be left over at its ends
    inner = data[:4096].strip(b"\0\r\n")
    zeros = inner.count(b"\0")
    if not zeros or 3 * zeros < len(inner):
        return ""
    return "UTF-32" if 3 * zeros > 2 * len(inner) else "UTF-16"
