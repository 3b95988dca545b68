"""What became of a line of a source: the record that it is, or why it was rejected."""

import os
from collections.abc import Sequence

import duckdb

from mira.config.settings import CorpusSettings
from mira.corpus import Shard, database, shards
from mira.corpus.index import check_shard
from mira.errors import InputError
from mira.run_folder.paths import RunFolder
from mira.selection.explain.results import RejectedLine

__all__ = ["line_of"]


def line_of(
    corpus: CorpusSettings, run: RunFolder, line: str | int, source: str = ""
) -> RejectedLine | tuple[str, str]:
    """Look up a line of a source in the index.

    Args:
        corpus: How the corpus is read.
        run: A run folder with an index.
        line: Its number, from 1, as messages name it; with several files, after the file: "part_3.jsonl:17". Rows of
            tables are counted from 1, too.
        source: Its source; needed only if the line could be of several sources.

    Returns:
        Source and id of the record, or why the line is none.

    Raises:
        InputError: There is no such source, file or line, or the line could be of several files.
        RunError: The source is not indexed yet, or has changed since.
    """
    names = [s.name for s in corpus.sources]
    if source and source not in names:
        raise InputError(f"there is no source '{source}'", f"Sources are: {', '.join(names)}")
    names = [source] if source else names
    file, number = _parsed(str(line))
    found = shards(corpus)
    parts = [shard for name in names for shard in found[name] if _is_named(shard, file)]
    files = list(dict.fromkeys((shard.source, shard.path) for shard in parts))
    if not files:
        raise InputError(f"no source has a file '{file}'", _files([s for name in names for s in found[name]]))
    if len(files) > 1:
        raise InputError(
            f"line {number:,} could be of {len(files):,} files",
            f"Name the source and the file, for example: --source {files[0][0]} --line {_name(files[0][1])}:{number}",
        )
    shard, row = _place(parts, number)
    check_shard(corpus, run, shard)
    with database.connect(run) as con:
        database.register_source(con, run, shard.source)
        entry = con.execute(
            "SELECT id, reason_rejected, detail FROM entries WHERE shard = ? AND row = ?", [shard.name, row]
        ).fetchone()
        if entry is None:
            raise _no_line(con, parts, shard, number)
        id_, reason, detail = entry
        if reason is not None:
            where = shard.where(row)  # of which the detail has the last part
            return RejectedLine(shard.source, where, reason, detail.removeprefix(f"{_name(where)}: "))
        first = con.execute("SELECT shard, row FROM valid WHERE id = ?", [id_]).fetchone()
    if first is None or first == (shard.name, row):
        return shard.source, id_
    earlier = next(other for other in found[shard.source] if other.name == first[0])
    detail = f"its id '{id_}' is that of an earlier record, {earlier.where(first[1])}"
    return RejectedLine(shard.source, shard.where(row), "duplicate_id", detail)


def _parsed(line: str) -> tuple[str, int]:
    file, _, number = line.rpartition(":")
    if not number.isdecimal() or int(number) < 1:
        raise InputError(
            f"line '{line}': expected a number from 1, or FILE:LINE", "For example: --line part_3.jsonl:17"
        )
    return file, int(number)


def _is_named(shard: Shard, file: str) -> bool:
    return not file or shard.path == file or f"/{shard.path.replace(os.sep, '/')}".endswith(f"/{file.lstrip('./')}")


def _name(path: str) -> str:
    return path.replace(os.sep, "/").rpartition("/")[2]


def _files(parts: Sequence[Shard]) -> str:
    names = list(dict.fromkeys(_name(shard.path) for shard in parts))
    return f"Files are: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def _place(parts: Sequence[Shard], number: int) -> tuple[Shard, int]:
    """Return the slice of the file that has the line, and its row there."""
    if any(shard.first_line is None for shard in parts):
        raise InputError(
            f"{parts[0].path}: lines of this remote file are not counted, because it is read in slices",
            "Look for the record by its text: mira explain CONFIG --text TEXT",
        )
    shard = [s for s in parts if s.first_line is not None and s.first_line <= number][-1]
    return shard, number - (shard.first_line or 1)


def _no_line(con: duckdb.DuckDBPyConnection, parts: Sequence[Shard], shard: Shard, number: int) -> InputError:
    last = con.execute("SELECT max(row) FROM entries WHERE shard = ?", [shard.name]).fetchone()
    end = (shard.first_line or 1) + (last[0] if last and last[0] is not None else -1)
    if shard is parts[-1] and number > end:
        return InputError(f"{shard.path} has no line {number:,}: its last one is {end:,}", "Check the number.")
    return InputError(f"{shard.path}:{number}: the line is blank", "Blank lines are passed over.")
