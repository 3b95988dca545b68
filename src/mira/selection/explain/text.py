"""Finding records by their text: the sources are read from start to end, one record in memory at a time."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mira.config.settings import CorpusSettings
from mira.corpus import Record, Rejected, Shard, shards
from mira.corpus.index import check_shard, duplicates_path
from mira.corpus.parse import Parser
from mira.errors import InputError
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.explain.results import TextMatch, TextMatches

__all__ = ["Hit", "find_text", "hits_in"]

_AROUND = 60  # letters of an excerpt on each side


def find_text(
    corpus: CorpusSettings, run: RunFolder, text: str, log: Log, *, source: str = "", limit: int = 20
) -> TextMatches:
    """Find the records whose text holds `text`, and rejected lines that hold it as they stand in the file.

    Capital and small letters count as the same, and so does all white space: a line break matches a space. Accents
    count.

    Args:
        corpus: How the corpus is read.
        run: A run folder with an index.
        text: What to look for.
        log: Where progress goes.
        source: Search only this source.
        limit: End after so many matches.

    Raises:
        InputError: The text is blank, the limit is below 1, or there is no such source.
        RunError: A source is not indexed yet, or has changed since.
    """
    if not _folded(text) or limit < 1:
        raise InputError("the text to look for is empty, or the limit is below 1", "For example: --text 'hello world'")
    names = [s.name for s in corpus.sources]
    if source and source not in names:
        raise InputError(f"there is no source '{source}'", f"Sources are: {', '.join(names)}")
    found = shards(corpus)
    parts = [shard for name in names if source in ("", name) for shard in found[name]]
    with log.task("search", len(parts)) as task:

        def hits() -> Iterator[Hit]:
            for shard in parts:
                check_shard(corpus, run, shard)
                yield from hits_in(corpus, shard, text)
                task.advance()

        first = list(islice(hits(), limit + 1))
    return TextMatches(text, _with_states(run, first[:limit]), len(first) <= limit)


class Hit(NamedTuple):
    """A record, or a rejected line, that holds the text.

    Attributes:
        shard: Its shard.
        item: What it is.
        excerpt: The text around the first match, in one line.
    """

    shard: Shard
    item: Record | Rejected
    excerpt: str


def hits_in(
    corpus: CorpusSettings,
    shard: Shard,
    text: str,
    rows: npt.NDArray[np.bool_] | None = None,
    counted: Callable[[int], bool] = lambda _: True,
) -> Iterator[Hit]:
    """Yield the records and rejected lines of a shard that hold a text.

    Args:
        corpus: How the corpus is read.
        shard: The shard.
        text: What to look for; see `find_text`.
        rows: Look only at the rows that are true in it; at none beyond its end.
        counted: Called with the bytes of every line or row that was read; reading ends where it returns False.

    Raises:
        RunError: The file has changed since the shard was found.
    """
    shard.check_unchanged()
    source, wanted = corpus.source(shard.source), _folded(text)
    parser, probe = Parser(source, corpus.max_record_bytes), _probe(wanted) if source.family in _PLAIN else b""
    for row, raw in parser.raw(shard):
        if not counted(_bytes_of(raw)):
            return
        if rows is not None and not (row < len(rows) and rows[row]):
            continue
        if probe and isinstance(raw, bytes) and raw.isascii() and probe not in raw.lower() and b"\\u" not in raw:
            continue
        item = parser.one(shard, row, raw)
        if isinstance(item, Record):
            texts: Sequence[str] = [part.text for part in item.parts]
        elif isinstance(raw, bytes):
            texts = [raw.decode("utf-8", "replace")]
        else:
            texts = [v for v in raw.values() if isinstance(v, str)] if isinstance(raw, dict) else []
        excerpt = next((e for e in (_excerpt(t, wanted) for t in texts) if e), "")
        if excerpt:
            yield Hit(shard, item, excerpt)
    shard.check_unchanged()


_PLAIN = ("text", "qa", "qa_with_think")  # families whose parts are strings of the line, as they stand there
_RUN = re.compile(rb"[a-z0-9]+")


def _probe(wanted: str) -> bytes:
    """Return letters and digits that a line of ASCII without escapes must have to hold the text."""
    return max(_RUN.findall(wanted.encode()), key=len, default=b"")


def _bytes_of(raw: object) -> int:
    if isinstance(raw, dict):
        return sum(len(value) for value in raw.values() if isinstance(value, str | bytes))
    return len(raw) if isinstance(raw, bytes) else 0


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _excerpt(text: str, wanted: str) -> str:
    """Return the first place of a text with what stands around it; "" if the text does not hold it."""
    at = _folded(text).find(wanted)
    if at < 0:
        return ""
    flat = " ".join(text.split())  # as long as the folded text but for a few letters, such as the German sharp s
    start, stop = max(at - _AROUND, 0), at + len(wanted) + _AROUND
    return f"{'…' if start else ''}{flat[start:stop]}{'…' if stop < len(flat) else ''}"


def _with_states(run: RunFolder, hits: Sequence[Hit]) -> list[TextMatch]:
    matches = []
    for shard, own in groupby(hits, lambda hit: hit.shard):
        of_shard = list(own)
        states = _states(run, shard, [hit.item.row for hit in of_shard])
        for _, item, excerpt in of_shard:
            id_ = item.id if isinstance(item, Record) else ""
            state = f"rejected: {item.reason}" if isinstance(item, Rejected) else states[item.row]
            matches.append(TextMatch(shard.source, id_, shard.where(item.row), state, excerpt))
    return matches


def _states(run: RunFolder, shard: Shard, rows: Sequence[int]) -> dict[int, str]:
    """Return what the index and the selection say of some rows of a shard."""
    states = dict.fromkeys(rows, "not selected yet")
    selection = run.selection(shard.source) / f"{shard.name}.parquet"
    if selection.is_file():
        table = pq.read_table(selection, columns=["row", "kept", "reason"], filters=[("row", "in", list(rows))])
        states |= {r["row"]: "kept" if r["kept"] else f"not kept: {r['reason']}" for r in table.to_pylist()}
    doubled = pq.read_table(duplicates_path(run, shard.source), filters=[("shard", "=", shard.name)], columns=["row"])
    return states | {row: "rejected: duplicate_id" for row in doubled["row"].to_pylist() if row in states}
