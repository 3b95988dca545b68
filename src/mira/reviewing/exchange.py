"""Reviews as files: forms to fill in (CSV or JSONL), and the filled forms read back.

A form has one row per record of the sample, in the order of the sample, without anything that a judge or the selection
says of it. Cells that a spreadsheet would take for a formula begin with an apostrophe.

A file is taken as a whole or not at all: of a file with a wrong row, nothing is written.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from mira.config.settings import CorpusSettings
from mira.corpus import pick
from mira.errors import ConfigError, InputError
from mira.reviewing.journal import DROP, KEEP, SKIP, HumanJudgement, add, check_reviewer, read_all
from mira.reviewing.sample import Card, Sample
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns
from mira.run_folder.files import atomic
from mira.run_folder.paths import RunFolder

__all__ = ["Imported", "check_forms", "export_forms", "import_forms", "rubrics_of"]

_FORMATS = (".csv", ".jsonl")
_VERDICTS = (KEEP, DROP, SKIP)
_QUOTED = ("=", "+", "-", "@", "\t", "\r", "'")  # beginnings of cells that get an apostrophe before them
_SHOWN = 10  # wrong rows that a message lists

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows of imported files, by what became of them; they sum to `rows`.

    Attributes:
        rows: All rows.
        new: Records that this reviewer had not judged.
        changed: Records that this reviewer had judged otherwise.
        unchanged: Records that this reviewer had judged so.
        repeated: Rows that say again what an earlier row of the files says.
        blank: Rows without verdict and scores.
    """

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    repeated: int = 0
    blank: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows: {self.new:,} new, {self.changed:,} changed, {self.unchanged:,} unchanged, "
            f"{self.repeated:,} repeated, {self.blank:,} blank"
        )


def rubrics_of(run: RunFolder, sample: Sample) -> dict[str, Rubric]:
    """Return group -> rubric, for the groups of the sample that have one."""
    groups = sorted({card.group for card in sample.cards if card.group})
    return {name: Rubric.load(run.rubric(name), name) for name in groups if run.rubric(name).is_file()}


def check_forms(form: Path | None, files: Sequence[Path], reviewer: str) -> None:
    """Check what can be checked of files and names before anything runs.

    Args:
        form: The file to export to, if any.
        files: The files to import.
        reviewer: A name, or "".

    Raises:
        ConfigError: A file's name has another ending, or the exported file exists already.
        InputError: An imported file is missing, or this is not a name.
    """
    for path in ([form] if form else []) + list(files):
        _format(path)
    if form is not None and form.exists():
        raise ConfigError(f"{form}: the file exists already", "Choose another name: judgements may be in it.")
    for path in files:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file", "Check the path.")
    if reviewer:
        check_reviewer(reviewer)


def export_forms(
    corpus: CorpusSettings, run: RunFolder, sample: Sample, path: Path, *, reviewer: str = "", slots: bool = False
) -> int:
    """Write a form for every record of the sample.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        sample: The sample.
        path: A new file: .csv or .jsonl.
        reviewer: Fill in what this reviewer has said so far; of others, nothing is shown.
        slots: Add the slots of each record's group.

    Returns:
        Records written.

    Raises:
        ConfigError: The file's name has another ending, or the file exists already.
        MiraError: A record is no longer in the corpus.
    """
    check_forms(path, (), reviewer)
    reviewer = check_reviewer(reviewer) if reviewer else ""
    texts = _texts(corpus, run, sample)
    rubrics = rubrics_of(run, sample) if slots else {}
    said = read_all(run).latest(reviewer) if reviewer else {}
    rows = [
        _form(card, texts[card.key], reviewer, said.get(card.key), rubrics.get(card.group)) for card in sample.cards
    ]
    with atomic(path) as temporary:
        temporary.write_bytes(_csv(rows) if path.suffix == ".csv" else b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return len(rows)


def import_forms(run: RunFolder, sample: Sample, paths: Sequence[Path], *, reviewer: str = "") -> Imported:
    """Read filled forms, and add what is new in them to the judgements.

    Args:
        run: The run folder.
        sample: The sample that the forms are of.
        paths: Files: .csv or .jsonl.
        reviewer: Who filled in the rows that do not name a reviewer.

    Returns:
        The rows, by what became of them.

    Raises:
        ConfigError: A file's name has another ending.
        InputError: A file cannot be read, or a row is wrong; names file, line and field. Nothing is written then.
    """
    reader = _Reader(sample, rubrics_of(run, sample), reviewer)
    for path in paths:
        for where, row in _rows(path):
            reader.read(where, row)
    if reader.problems:
        raise reader.refusal()
    known = read_all(run)
    said = {name: known.latest(name) for name in {one.reviewer for one in reader.judgements}}
    counts, added = Counter[str](), []
    seen: set[tuple[str, Key]] = set()
    for one in reader.judgements:
        before = said[one.reviewer].get(one.key)
        again = (one.reviewer, one.key) in seen
        seen.add((one.reviewer, one.key))
        if before is not None and before.content == one.content:
            counts["repeated" if again else "unchanged"] += 1
            continue
        counts["changed" if before is not None else "new"] += 1
        said[one.reviewer][one.key] = one
        added.append(one)
    add(run, added)
    return Imported(rows=len(reader.judgements) + reader.blank, blank=reader.blank, **counts)


@dataclass
class _Reader:
    """Turns rows into judgements, and collects what is wrong with the others."""

    sample: Sample
    rubrics: Mapping[str, Rubric]
    reviewer: str
    judgements: list[HumanJudgement] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    blank: int = 0

    def __post_init__(self) -> None:
        self._cards = {card.key: card for card in self.sample.cards}
        self._sources: dict[str, list[str]] = {}
        for card in self.sample.cards:
            self._sources.setdefault(card.id, []).append(card.source)

    def read(self, where: str, row: Any) -> None:
        """Take a row: a mapping, or the text of what is wrong with it."""
        if isinstance(row, str):
            self._wrong("unreadable rows", f"{where}: {row}")
            return
        given = row.get("scores") if isinstance(row.get("scores"), dict) else {}
        scores = {slot: row[slot] for slot in slot_columns(row)} | given
        scores = {slot: value for slot, value in scores.items() if value not in (None, "")}
        verdict = _text(row.get("verdict")).lower()
        if not verdict and not scores:
            self.blank += 1
            return
        card = self._card(where, row)
        reviewer = self._reviewer(where, row)
        if verdict not in _VERDICTS:
            found = f"'{verdict}'" if verdict else "empty, but slots are scored"
            self._wrong("wrong values", f"{where}: verdict: {found}; expected {', '.join(_VERDICTS)}")
        values = {slot: self._score(where, slot, value, card) for slot, value in scores.items()}
        if card is not None and reviewer is not None and verdict in _VERDICTS and None not in values.values():
            whole = {slot: value for slot, value in values.items() if value is not None}
            note, at = _text(row.get("note")), _text(row.get("at"))
            self.judgements.append(HumanJudgement(card.source, card.id, reviewer, verdict, whole, note, at))

    def refusal(self) -> InputError:
        """Return the error that lists what is wrong."""
        counts = ", ".join(f"{len(found):,} {kind}" for kind, found in self.problems.items())
        lines = [line for found in self.problems.values() for line in found]
        more = f"\n  and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
        listed = "\n  ".join(lines[:_SHOWN])
        return InputError(
            f"nothing was imported: {counts}\n  {listed}{more}", "Correct these rows, and import the file again."
        )

    def _wrong(self, kind: str, line: str) -> None:
        self.problems.setdefault(kind, []).append(line)

    def _card(self, where: str, row: Mapping[str, Any]) -> Card | None:
        id, source = _text(row.get("id")), _text(row.get("source"))
        if not id:
            self._wrong("rows without an id", f"{where}: id: empty")
            return None
        sources = [source] if source else self._sources.get(id, [])
        if len(sources) > 1:
            self._wrong("wrong values", f"{where}: source: empty, and several sources have the id '{id}'")
            return None
        card = self._cards.get((sources[0], id)) if sources else None
        if card is None:
            of = f" of source '{source}'" if source else ""
            self._wrong("unknown ids", f"{where}: id: '{id}'{of} is not in the sample")
        return card

    def _reviewer(self, where: str, row: Mapping[str, Any]) -> str | None:
        given = _text(row.get("reviewer")) or self.reviewer
        if not given:
            self._wrong("rows without a reviewer", f"{where}: reviewer: empty; name one with --reviewer NAME")
            return None
        try:
            return check_reviewer(given)
        except InputError as error:
            self._wrong("wrong values", f"{where}: {error.message}")
            return None

    def _score(self, where: str, slot: str, value: Any, card: Card | None) -> float | None:
        rubric = self.rubrics.get(card.group) if card else None
        if card is not None and (rubric is None or slot not in rubric.slots):
            self._wrong("wrong values", f"{where}: {slot}: the rubric of source '{card.source}' has no such slot")
            return None
        try:
            score = float(value)
        except (TypeError, ValueError):
            score = float("nan")
        if isinstance(value, bool) or not (isfinite(score) and 0 <= score <= 10):
            self._wrong("wrong values", f"{where}: {slot}: '{value}'; expected a number from 0 to 10")
            return None
        return score


def _format(path: Path) -> str:
    if path.suffix not in _FORMATS:
        raise ConfigError(f"{path}: expected a file that ends in .csv or .jsonl", "For example: review.csv")
    return path.suffix


def _texts(corpus: CorpusSettings, run: RunFolder, sample: Sample) -> dict[Key, str]:
    texts: dict[Key, str] = {}
    for source in sorted({card.source for card in sample.cards}):
        for record in pick(corpus, run, source, [card.id for card in sample.cards if card.source == source]):
            texts[source, record.id] = record.text
    return texts


def _form(card: Card, text: str, reviewer: str, said: HumanJudgement | None, rubric: Rubric | None) -> dict[str, Any]:
    scores = said.scores if said else {}
    slots = {slot: scores.get(slot, "") for slot in rubric.slots} if rubric else {}
    names = {"rubric": "; ".join(f"{a.slot} {a.name}" for a in rubric.anchors)} if rubric else {}
    return {
        "place": card.place,
        "source": card.source,
        "id": card.id,
        "reviewer": reviewer,
        "verdict": (said.verdict or "") if said else "",
        **slots,
        "note": said.note if said else "",
        **names,
        "text": text,
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    file = StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return file.getvalue().encode("utf-8-sig", "surrogatepass")


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_QUOTED) else value


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_QUOTED) else text


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield "file:line" and the row, or what is wrong with it."""
    kind = _format(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", "Check the path.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is not UTF-8 (byte {error.start:,})", "Save the file as UTF-8.") from None
    yield from _csv_rows(path, text) if kind == ".csv" else _json_rows(path, text)


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = orjson.loads(line)
            except ValueError as error:
                row = f"this is not JSON: {error}"
            yield f"{path}:{number}", row if isinstance(row, dict | str) else "this is not an object"


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    head = text.partition("\n")[0]
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        if "id" not in columns or "verdict" not in columns:
            raise InputError(
                f"{path}:1: the columns are {', '.join(columns) or 'missing'}",
                "The first line must name the columns id and verdict; `mira review CONFIG --export FILE` writes it.",
            )
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                wrong = f"{len(cells):,} cells, but {len(columns):,} columns"
                row = dict(zip(columns, map(_uncell, cells), strict=True)) if len(cells) == len(columns) else wrong
                yield f"{path}:{start}", row
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}", "Export the table again as CSV.") from None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
