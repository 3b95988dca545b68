r"""From a line or row to a record, or to a counted rejection. Index, readers and copies all go through here.

Rules. Every line or row is either a record or a rejection with a reason; nothing else happens to it.

==================  ====================================================================================
reason              when
==================  ====================================================================================
bad_json            the line is not JSON, or nested too deeply. NaN and Infinity are tolerated
not_an_object       it is JSON, but no object
invalid_utf8        the line, or a string of a table, is not strict UTF-8 (UTF-16 is not); or a field that is read
                    holds a lone surrogate (an escape such as \ud800 without its other half)
missing_field       a required field is not there or null
bad_field           a field has the wrong type; an id must be a string, a whole number of any size or type (1.0 is
                    one up to 2^53), a UUID, or bytes (text if they are, else hex digits)
empty_text          a required field is blank
too_long            the line is longer than `max_record_bytes`, or the columns that are read of a row of a table
                    are; it is not read any further
duplicate_id        an earlier record of the source, by path and position, has the same id
truncated_file      one a file, after its last row: a compressed or table file ends early or is damaged. What was
                    read before stays; the incomplete last line belongs to what is lost
==================  ====================================================================================

Blank lines are not records and are not counted, but have their line number. CRLF line ends are tolerated, and UTF-8
byte order marks at the start of any line, where files were joined. A record without an id (missing, null or "") gets
the first 16 hex digits of sha256(source, a zero byte, text), where text is its rendered content: so the copies of an
identical record without ids are duplicates. Numbers as ids are taken as strings. Line numbers count from 1; rows of
tables too.
"""

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

from mira.config.settings import SourceSettings
from mira.corpus.families import FieldProblem, Fields, find_family, look_up, parse_json, parse_slowly
from mira.corpus.files.lines import Damaged, Line, TooLong, read_lines
from mira.corpus.files.sniff import encoding_of, what_it_is
from mira.corpus.files.tables import Row, batches, python_rows
from mira.corpus.record import Record, Rejected, Rejection
from mira.corpus.shards import Shard, format_of
from mira.errors import ConfigError

__all__ = ["BadLine", "Parser", "to_object"]

_EXACT = 2.0**53  # from here on, floating-point numbers stand for several whole numbers

Raw = Line | Row | Damaged


class Parser:
    """Reads one source's shards.

    Raises:
        ConfigError: The source maps a field that its family does not have.
    """

    def __init__(self, source: SourceSettings, longest: int) -> None:
        family = find_family(source.family)
        known = family.fields
        for name in source.fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigError(
                    f"source '{source.name}': fields: family {source.family} has no field '{name}'"
                    + (f"; did you mean {near[0]}?" if near else ""),
                    f"Its fields are {', '.join(known)}. Left of the colon is mira's name, right of it yours.",
                )
        self._source, self._family, self._fields = source.name, family, dict(source.fields)
        self._id = source.fields.get("id", "id")
        self._columns = sorted({source.fields.get(name, name) for name in known})
        self._longest = longest

    def parse(self, shard: Shard, rows: Collection[int] | None = None) -> Iterator[Record | Rejected]:
        """Yield the records and rejections of a shard in order of row.

        Args:
            shard: One of the source's shards.
            rows: Only these rows; None for all.

        Raises:
            OSError: The file cannot be opened.
        """
        for row, raw in self.raw(shard):
            if rows is None or row in rows:
                yield self.one(shard, row, raw)

    def values(self, shard: Shard, path: str) -> Iterator[tuple[int, Any]]:
        """Yield row and value of a field outside the record, such as `meta.kind`; None where it is missing.

        Lines that are not objects are skipped.
        """
        for row, raw in self.raw(shard, [path, path.partition(".")[0]]):
            try:
                yield row, look_up(to_object(raw, self._longest), path)
            except BadLine:
                continue

    def raw(self, shard: Shard, columns: Collection[str] = ()) -> Iterator[tuple[int, Raw]]:
        """Yield a shard's lines or rows as they are; damage comes as the last of them.

        Args:
            shard: One of the source's shards.
            columns: Columns of a table to read; by default those of the record.
        """
        fmt = format_of(shard.path)
        try:
            if fmt.kind == "jsonl":
                yield from read_lines(shard.path, fmt.compression, shard.start, shard.stop, self._longest)
                return
            row = 0
            for batch in batches(shard.path, fmt.kind, sorted({*columns}) or self._columns):
                for value in python_rows(batch, self._longest):
                    yield row, value
                    row += 1
        except Damaged as damage:
            yield damage.args[1], damage

    def one(self, shard: Shard, row: int, raw: Raw) -> Record | Rejected:
        """Turn one line or row into a record or a rejection."""
        try:
            return self._record(row, raw)
        except (FieldProblem, BadLine) as problem:
            return Rejected(row, problem.reason, f"{shard.where(row)}: {problem}")

    def _record(self, row: int, raw: Raw) -> Record:
        value = raw if isinstance(raw, dict) else to_object(raw, self._longest)
        given = self._given_id(value, raw)
        left_out: list[str] = []
        parts = self._family.render(Fields(value, self._fields, left_out))
        _check_text(given)
        blank = True
        for part in parts:
            _check_text(part.text)
            _check_text(part.label)
            blank = blank and (not part.text or part.text.isspace())
        if blank:
            field = self._family.required[0]
            raise FieldProblem(Rejection.EMPTY_TEXT, self._fields.get(field, field), "gives no text")
        record = Record(given, self._source, self._family.name, parts, row, 0, tuple(left_out))
        if given:
            return record
        digest = hashlib.sha256(f"{self._source}\0{record.text}".encode()).hexdigest()[:16]
        return Record(digest, self._source, self._family.name, parts, row, 0, record.left_out)

    def _given_id(self, value: dict[str, Any], raw: Raw) -> str:
        found = look_up(value, self._id)
        if type(found) is str:
            return found
        if found is None:
            return ""
        if type(found) is int:
            return str(found)
        return self._unusual_id(found, raw)

    def _unusual_id(self, found: Any, raw: Raw) -> str:
        """Return an id that is neither a string nor a whole number of 64 bits, if its value is exact."""
        if type(found) is float and abs(found) >= _EXACT and isinstance(raw, bytes):
            found = look_up(parse_slowly(raw), self._id)  # a whole number beyond 64 bits came as a float
        if isinstance(found, bytes):
            return _from_bytes(found)
        if isinstance(found, UUID):
            return str(found)
        if type(found) is float and found.is_integer() and abs(found) >= _EXACT:
            raise FieldProblem(Rejection.BAD_FIELD, self._id, "is a floating-point number too large to be exact")
        whole = (type(found) is float and found.is_integer()) or (
            isinstance(found, Decimal) and found.is_finite() and found == found.to_integral_value()
        )
        if whole or type(found) is int:
            return str(int(found))
        raise FieldProblem(Rejection.BAD_FIELD, self._id, "is neither a string nor a whole number")


def _from_bytes(data: bytes) -> str:
    """Return an id of bytes as the text that they are, or as hex digits where they are none."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.hex()
    return text if text.isprintable() else data.hex()


class BadLine(Exception):
    """A line is not an object.

    Attributes:
        reason: The rejection.
    """

    def __init__(self, reason: Rejection, what: str) -> None:
        super().__init__(what)
        self.reason = reason


def to_object(raw: Raw, longest: int) -> dict[str, Any]:
    """Return the object that a line or row holds.

    Raises:
        BadLine: It holds none.
    """
    if isinstance(raw, dict):
        return raw
    if isinstance(raw, TooLong):
        what = f"the line or row has {raw:,} bytes, more than max_record_bytes ({longest:,})"
        raise BadLine(Rejection.TOO_LONG, what)
    if isinstance(raw, Damaged):
        raise BadLine(Rejection.TRUNCATED_FILE, f"what follows is lost: {raw.args[0]}")
    if isinstance(raw, UnicodeDecodeError):
        raise BadLine(Rejection.INVALID_UTF8, f"a string is not UTF-8 ({raw.reason})")
    if isinstance(raw, ValueError):
        raise BadLine(Rejection.BAD_FIELD, f"a value cannot be read: {raw}")
    try:
        value = parse_json(raw)
    except ValueError as error:
        raise _bad_json(raw, error) from None
    if not isinstance(value, dict):
        raise BadLine(Rejection.NOT_AN_OBJECT, "not a JSON object")
    return value


def _bad_json(raw: bytes, error: ValueError) -> BadLine:
    """Say why a line cannot be parsed, and what it is instead where that can be seen."""
    if encoding := encoding_of(raw):
        convert = f"iconv -f {encoding} -t UTF-8" if encoding[-1] == "E" else "iconv"
        return BadLine(Rejection.INVALID_UTF8, f"{encoding} text, not UTF-8: convert the file with {convert}")
    found = what_it_is(raw)
    instead = f"; the file is {found}" if found not in ("", "plain text") else ""
    if isinstance(error, UnicodeDecodeError):
        return BadLine(Rejection.INVALID_UTF8, f"not UTF-8 at byte {error.start} of the line{instead}")
    what = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
    if raw.strip() == b"[":
        what = "a file that is one array is not read, only one object a line"
    elif not raw.strip(b"\0\r\n"):
        what = "only zero bytes, as a crash leaves them"
    elif b"}\r{" in raw[: 2**20]:
        what = "lines end with CR alone: write them with LF"
    return BadLine(Rejection.BAD_JSON, f"not JSON: {what}{instead}")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadLine(Rejection.INVALID_UTF8, f"lone surrogate {error.object[error.start]!r}") from None
