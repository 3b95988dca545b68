"""Formats of input files, by their names."""

import re
from dataclasses import dataclass

from mira.errors import InputError

__all__ = ["KNOWN", "Format", "format_of", "has_format", "without_extension"]

_SUFFIX = re.compile(r"(\.(?:jsonl|ndjson|json)(?:\.(?:gz|zst|zstd|bz2|xz))?|\.parquet|\.pq|\.arrow)$", re.IGNORECASE)
KNOWN = ".jsonl, .ndjson, .json (each plain, .gz, .zst, .bz2 or .xz), .parquet, .pq, .arrow"
"""The extensions, for messages."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file's format.

    Attributes:
        kind: "jsonl", "parquet" or "arrow".
        compression: "", "gz", "zst", "bz2" or "xz"; of JSONL only.
        extension: As it is in the file's name: ".jsonl.gz".
    """

    kind: str
    compression: str
    extension: str


def has_format(path: str) -> bool:
    """Return whether a file's name shows a known format."""
    return _SUFFIX.search(path) is not None


def without_extension(path: str) -> str:
    """Return a path without the extension that tells its format."""
    return _SUFFIX.sub("", path)


def format_of(path: str) -> Format:
    """Return the format that a file's name tells.

    Raises:
        InputError: The name tells none.
    """
    match = _SUFFIX.search(path)
    if match is None:
        raise InputError(f"{path}: unknown format", f"Known by the file's name are {KNOWN}.")
    extension = match[1]
    first, _, second = extension[1:].lower().partition(".")
    kind = {"parquet": "parquet", "pq": "parquet", "arrow": "arrow"}.get(first, "jsonl")
    return Format(kind, {"zstd": "zst"}.get(second, second), extension)
