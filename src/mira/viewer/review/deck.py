"""The cards of a review: what a reviewer sees next, and what they have said."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from mira.config.settings import CorpusSettings
from mira.corpus import pick
from mira.corpus.record import Part, Record
from mira.errors import InputError
from mira.progress import Log, Quiet
from mira.reviewing.exchange import rubrics_of
from mira.reviewing.journal import DROP, KEEP, SKIP, HumanJudgement, add, check_reviewer, read_all
from mira.reviewing.sample import Card, Sample
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

__all__ = ["UNDO", "Deck", "Hand"]

UNDO = "undo"
_SHOWN = 100_000  # characters of a record
_LONGEST_NOTE = 10_000  # characters

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Text:
    """The parts of a record as they are shown, and how many characters follow them."""

    parts: tuple[Part, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Hand:
    """What a reviewer sees.

    Attributes:
        reviewer: Their name.
        card: The next record; None when all are judged.
        text: Its text.
        rubric: Its group's rubric, where slots are asked for.
        said: What they said of it before: it was skipped.
        judged: Records that they have judged.
        skipped: Records that they have skipped.
        of: Records of the sample.
    """

    reviewer: str
    card: Card | None
    text: Text
    rubric: Rubric | None
    said: HumanJudgement | None
    judged: int
    skipped: int
    of: int


class Deck:
    """A sample, its texts and its reviewers. What was said is read from the run folder at every request.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        sample: The sample.
        log: Where the progress of reading the records goes.
        slots: Whether slots are asked for.
    """

    def __init__(
        self, corpus: CorpusSettings, run: RunFolder, sample: Sample, log: Log | None = None, *, slots: bool = False
    ) -> None:
        self._run, self._sample = run, sample
        self._cards = {card.key: card for card in sample.cards}
        self._places = {card.place: card for card in sample.cards}
        self._texts = _texts(corpus, run, sample, log or Quiet())
        self._rubrics = rubrics_of(run, sample) if slots else {}

    def hand(self, reviewer: str) -> Hand:
        """Return what a reviewer sees next: the first record that they have not judged, then what they skipped.

        Raises:
            InputError: This is not a name.
        """
        reviewer = check_reviewer(reviewer)
        said = read_all(self._run).latest(reviewer)
        skipped = [key for key, one in said.items() if one.verdict == SKIP and key in self._cards]
        key = next((card.key for card in self._sample.cards if card.key not in said), next(iter(skipped), None))
        card = self._cards[key] if key else None
        return Hand(
            reviewer,
            card,
            self._texts[card.key] if card else Text((), 0),
            self._rubrics.get(card.group) if card else None,
            said.get(card.key) if card else None,
            sum(key in self._cards and one.verdict != SKIP for key, one in said.items()),
            len(skipped),
            len(self._sample.cards),
        )

    def judge(self, given: Mapping[str, Any]) -> None:
        """Keep a judgement; when this returns, it is on the disk.

        Args:
            given: What the page sends: reviewer, place, verdict, scores and note; for `UNDO`, the reviewer.

        Raises:
            InputError: Something of it is wrong.
        """
        reviewer = check_reviewer(_text(given, "reviewer"))
        verdict = _text(given, "verdict")
        if verdict == UNDO:
            self._undo(reviewer)
            return
        card = self._places.get(given.get("place", 0)) if isinstance(given.get("place"), int) else None
        if card is None:
            raise InputError(f"place: {given.get('place')!r} is not in the sample", "Load the page again.")
        if verdict not in (KEEP, DROP, SKIP):
            raise InputError(f"verdict: '{verdict}'", f"Expected {KEEP}, {DROP} or {SKIP}.")
        scores, note = self._scores(card, given.get("scores") or {}), _text(given, "note")
        if len(note) > _LONGEST_NOTE:
            raise InputError(f"note: {len(note):,} characters", f"At most {_LONGEST_NOTE:,}.")
        add(self._run, [HumanJudgement(card.source, card.id, reviewer, verdict, scores, note)])

    def _undo(self, reviewer: str) -> None:
        said = [one for one in read_all(self._run).latest(reviewer).values() if one.key in self._cards]
        if not said:
            raise InputError("there is nothing to take back", "Judge a record first.")
        add(self._run, [HumanJudgement(said[-1].source, said[-1].id, reviewer, None)])

    def _scores(self, card: Card, given: Any) -> dict[str, float]:
        rubric = self._rubrics.get(card.group)
        slots = rubric.slots if rubric else []
        scores = {}
        for slot, value in given.items() if isinstance(given, dict) else [("scores", given)]:
            number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            if slot not in slots or not number or not 0 <= value <= 10:
                raise InputError(f"{slot}: '{value}'", "Expected a number from 0 to 10 for a slot of the rubric.")
            scores[slot] = float(value)
        return scores


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise InputError(f"{name}: this is not a text", "Load the page again.")
    return value.strip()


def _texts(corpus: CorpusSettings, run: RunFolder, sample: Sample, log: Log) -> dict[Key, Text]:
    """Read the start of every record: the sample is small, and records are found by reading their files."""
    texts: dict[Key, Text] = {}
    with log.task("review: reading records", len(sample.cards)) as task:
        for source in sorted({card.source for card in sample.cards}):
            for record in pick(corpus, run, source, [card.id for card in sample.cards if card.source == source]):
                texts[source, record.id] = _start(record)
                task.advance()
    return texts


def _start(record: Record) -> Text:
    parts, left = [], _SHOWN
    for part in record.parts:
        if left > 0:
            parts.append(Part(part.label, part.text[:left]))
        left -= len(part.text)
    return Text(tuple(parts), max(-left, 0))
