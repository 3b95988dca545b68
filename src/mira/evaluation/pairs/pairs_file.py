"""Reading a file of pairs: JSONL of better and worse, each a record as its source has them, or a plain text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mira.config.settings import CorpusSettings, SourceSettings
from mira.corpus.families import FieldProblem, find_family, parse_json, render
from mira.corpus.files.formats import format_of
from mira.corpus.files.lines import Damaged, TooLong, read_lines
from mira.corpus.record import Part, Record, Rejection
from mira.errors import InputError
from mira.family import FamilyName

__all__ = ["PairsRead", "RecordPair", "read_pairs"]

_SHOWN = 10
_FORM = 'A line is {"better": ..., "worse": ..., "source": NAME, "kind": WORD, "id": ID}; the last three are optional.'


@dataclass(frozen=True, slots=True)
class RecordPair:
    """A better and a worse record of one source.

    Attributes:
        id: The pair's id, as the file says it, else file and line. Pairs of the same id are not independent.
        better: The better record. Its id holds the line, so that it is unique.
        worse: The worse record.
        kind: What sets them apart, as the file says it; "" if it does not.
    """

    id: str
    better: Record
    worse: Record
    kind: str


@dataclass(slots=True)
class PairsRead:
    """What a file of pairs holds.

    Attributes:
        pairs: The pairs.
        rejected: Why lines are not pairs -> lines.
        problems: The first of these lines, with file, line and field.
        assumed: Source -> pairs that name none and are taken as its records.
    """

    pairs: list[RecordPair] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    assumed: Counter[str] = field(default_factory=Counter)

    @property
    def lines(self) -> int:
        """Lines that are not blank: pairs, and lines that are none."""
        return len(self.pairs) + self.rejected.total()


class _BadPair(Exception):
    """A line is not a pair: why, and what is wrong with it."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = str(reason)


def read_pairs(corpus: CorpusSettings, path: Path, source: str = "") -> PairsRead:
    """Read a file of pairs. Lines that are not pairs are counted by their reasons.

    Args:
        corpus: The sources, whose families and fields say how records are read.
        path: The file: JSONL, plain or compressed.
        source: Source of pairs that name none; by default the first one that such records fit.

    Returns:
        The pairs, in order.

    Raises:
        InputError: The file is missing or no JSONL, there is no such source, or no line is a pair.
    """
    names = [s.name for s in corpus.sources]
    if source and source not in names:
        raise InputError(f"--source: {_no_source(source, names)}", f"Sources are {', '.join(names)}.")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", _FORM)
    found = PairsRead()
    for row, value in _objects(path, corpus.max_record_bytes):
        where = f"{path}:{row + 1}"
        try:
            pair, assumed = _pair(corpus.sources, value, f"{path.name}:{row + 1}", source)
        except _BadPair as problem:
            found.rejected[problem.reason] += 1
            if len(found.problems) < _SHOWN:
                found.problems.append(f"{where}: {problem}")
            continue
        found.pairs.append(pair)
        if assumed:
            found.assumed[pair.better.source] += 1
    if not found.pairs:
        raise InputError(f"{found.problems[0] if found.problems else path}: there is no pair", _FORM)
    return found


def _objects(path: Path, longest: int) -> Iterator[tuple[int, Any]]:
    """Yield the position and the value of each line; a problem as `_BadPair`."""
    form = format_of(str(path))
    if form.kind != "jsonl":
        raise InputError(f"{path}: pairs are read from JSONL, plain or compressed", _FORM)
    try:
        for row, line in read_lines(str(path), form.compression, None, None, longest):
            yield row, _parsed(line)
    except Damaged as damage:
        raise InputError(f"{path}: the file is damaged: {damage.args[0]}", "Write it again.") from None


def _parsed(line: bytes | TooLong) -> Any:
    if isinstance(line, TooLong):
        return _BadPair(Rejection.TOO_LONG, f"the line has {line:,} bytes, more than max_record_bytes")
    try:
        return parse_json(line)
    except ValueError:
        return _BadPair(Rejection.BAD_JSON, "not JSON")


def _pair(sources: Sequence[SourceSettings], value: Any, place: str, source: str) -> tuple[RecordPair, bool]:
    if isinstance(value, _BadPair):
        raise value
    if not isinstance(value, dict):
        raise _BadPair(Rejection.NOT_AN_OBJECT, "not a JSON object")
    for side in ("better", "worse"):
        if value.get(side) is None:
            raise _BadPair(Rejection.MISSING_FIELD, f"field '{side}' is missing")
        if not isinstance(value[side], str | dict):
            raise _BadPair(Rejection.BAD_FIELD, f"field '{side}' is neither a text nor an object")
    kind = _word(value, "kind")
    named = _word(value, "source") or source
    if named:
        names = [s.name for s in sources]
        if named not in names:
            raise _BadPair("unknown_source", f"field 'source': {_no_source(named, names)}")
        settings = next(s for s in sources if s.name == named)
    else:
        settings = _first_that_fits(sources, value)
    better, worse = (_parts(settings, value[side], side) for side in ("better", "worse"))
    if better == worse:
        raise _BadPair("same_text", "fields 'better' and 'worse' are the same text")
    good, bad = (
        Record(f"{place}:{side}", settings.name, settings.family, parts)
        for side, parts in (("better", better), ("worse", worse))
    )
    return RecordPair(_word(value, "id") or place, good, bad, kind), not named


def _word(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise _BadPair(Rejection.BAD_FIELD, f"field '{name}' is not a string")
    return str(found)


def _first_that_fits(sources: Sequence[SourceSettings], value: dict[str, Any]) -> SourceSettings:
    for settings in sources:
        try:
            for side in ("better", "worse"):
                _parts(settings, value[side], side)
        except _BadPair:
            continue
        return settings
    raise _BadPair("no_source", "field 'source' is missing, and the records are of no source's form")


def _parts(settings: SourceSettings, value: str | dict[str, Any], side: str) -> tuple[Part, ...]:
    if isinstance(value, str):
        if settings.family != FamilyName.TEXT:
            fields = ", ".join(find_family(settings.family).required)
            what = f"field '{side}' is a text; source '{settings.name}' has family {settings.family}: {fields}"
            raise _BadPair(Rejection.BAD_FIELD, what)
        parts: tuple[Part, ...] = (Part("", value),)
    else:
        try:
            parts = render(settings.family, value, settings.fields)
        except FieldProblem as problem:
            raise _BadPair(problem.reason, f"field '{side}.{problem.field}' {problem.what}") from None
    if not any(part.text.strip() for part in parts):
        raise _BadPair(Rejection.EMPTY_TEXT, f"field '{side}' is blank")
    try:
        for part in parts:
            part.text.encode()
    except UnicodeEncodeError:
        raise _BadPair(Rejection.INVALID_UTF8, f"field '{side}' holds a lone surrogate") from None
    return parts


def _no_source(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, 1)
    return f"there is no source '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")
