"""Training examples of a tuned student: the exact serving prompt of a record, and the teacher's reply to it.

A label that cannot become an example is never lost silently: it comes out as a `LeftOut` with a reason.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mira.config.settings import CorpusSettings, DiscoverSettings, SftSettings
from mira.corpus import Record, fetch
from mira.errors import RunError
from mira.judging.fence import defuse
from mira.judging.prompt import Prompt, build_prompt
from mira.labelling.labels import TRAIN, load_labels
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder
from mira.tokens import Tokenizer

__all__ = [
    "Example",
    "Fetch",
    "LeftOut",
    "Tally",
    "examples",
    "read_labels",
    "render_reply",
    "run_records",
    "student_prompt",
]

Fetch = Callable[[str, Sequence[str]], Iterable[Record]]
"""(source, ids) -> those of the records that are there, in any order."""

_FETCH = 20_000


@dataclass(frozen=True, slots=True)
class Example:
    """One training example.

    Attributes:
        id: Record id.
        source: Its source.
        replicate: Which of the teacher's judgements of the record this is.
        slots: The slots that are asked for, in the order of their lines.
        system: System prompt.
        user: User message.
        reply: The teacher's reply in the card's grammar, its lines in the order of `slots`.
        notes: What was done to the record to fit: "cut:1234".
    """

    id: str
    source: str
    replicate: int
    slots: tuple[str, ...]
    system: str
    user: str
    reply: str
    notes: tuple[str, ...] = ()

    def messages(self) -> list[dict[str, str]]:
        """Return the example as chat messages."""
        contents = {"system": self.system, "user": self.user, "assistant": self.reply}
        return [{"role": role, "content": content} for role, content in contents.items()]

    def left_out(self, reason: str) -> "LeftOut":
        """Return the label as one that is not trained on."""
        return LeftOut(self.id, self.source, self.replicate, reason)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A label that is not trained on.

    Attributes:
        id: Record id.
        source: Its source.
        replicate: Which judgement of the record.
        reason: "unscored:<why>", "no_overall", "no_recommendation", "no_domain_tag", "no_brief", "record_missing" or
            "too_long".
    """

    id: str
    source: str
    replicate: int
    reason: str


@dataclass(slots=True)
class Tally:
    """What became of a group's training labels.

    Attributes:
        prompts: Prompt tokens of each example.
        lengths: Prompt and reply tokens of each example.
        used: Source -> examples.
        left_out: Source -> reason -> labels that are not trained on.
        cut: Examples whose record was cut middle-out.
        subsets: Examples that ask for a part of the slots.
    """

    prompts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    cut: int = 0
    subsets: int = 0

    def add(self, item: Example | LeftOut, n_prompt: int, n_reply: int, n_slots: int) -> None:
        """Count a label; its tokens count if it is an example."""
        if isinstance(item, LeftOut):
            self.left_out.setdefault(item.source, Counter())[item.reason] += 1
            return
        self.prompts.append(n_prompt)
        self.lengths.append(n_prompt + n_reply)
        self.used[item.source] += 1
        self.cut += any(note.startswith("cut:") for note in item.notes)
        self.subsets += len(item.slots) < n_slots

    def counts(self) -> dict[str, Any]:
        """Return the counts as JSON; examples and labels left out add up to the labels."""
        return {
            "examples": len(self.lengths),
            "examples_by_source": dict(sorted(self.used.items())),
            "left_out": {source: dict(sorted(c.items())) for source, c in sorted(self.left_out.items())},
            "cut": self.cut,
            "slot_subsets": self.subsets,
            "tokens": sum(self.lengths),
            "reply_tokens": sum(self.lengths) - sum(self.prompts),
            "longest": max(self.lengths, default=0),
        }


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a tuned student follows from, besides rubric and labels.

    Attributes:
        settings: How it is tuned: `distill.sft`.
        discover: What its prompt calls the records.
        seed: Seed of slot subsets and of training.
    """

    settings: SftSettings
    discover: DiscoverSettings
    seed: int


def student_prompt(rubric: Rubric, tuning: Tuning) -> Prompt:
    """Return the prompt that a tuned student of this rubric is trained and served with."""
    settings = tuning.settings
    shown = rubric if settings.references else replace(rubric, n_referenced=0)
    return build_prompt(
        shown, corpus=tuning.discover.corpus, records=tuning.discover.records, slot_order=settings.slot_order
    )


def read_labels(run: RunFolder, group: str) -> pa.Table:
    """Return a group's labels of the training split, ordered by source, id and replicate.

    Raises:
        RunError: The group has no labels, or none to train on.
    """
    table = load_labels(run, group)
    table = table.filter(pc.equal(table["split"], TRAIN))
    if not table.num_rows:
        message = f"{run.labels(group)}: no label is in the training split"
        raise RunError(message, "Label more records, or lower label.held_out.")
    return table.sort_by([(name, "ascending") for name in ("source", "id", "replicate")])


def examples(
    prompt: Prompt,
    labels: pa.Table,
    records: Fetch,
    settings: SftSettings,
    *,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
) -> Iterator[Example | LeftOut]:
    """Yield one example or the reason against it a label, in the order of `labels`.

    Args:
        prompt: The student's prompt; its slots are those of the labels.
        labels: Labels ordered by source (`read_labels`).
        records: Where the labelled records come from.
        settings: Order and subsets of slots; what happens to records that are too long.
        seed: Seed of the random subsets.
        tokenizer: The student's; with it, and where `settings` say so, long records are cut middle-out to fit
            `max_length` less `max_reply`, as the judge cuts them.
    """
    room = settings.max_length - settings.max_reply if tokenizer and settings.overflow == "cut" else None
    maker = _Maker(prompt, settings.slot_subsets, seed, tokenizer, room)
    for rows in _by_source(labels):
        found = {r.id: r for r in records(rows[0]["source"], sorted({row["id"] for row in rows}))}
        for row in rows:
            yield maker.example(row, found.get(row["id"]))


def run_records(corpus: CorpusSettings, run: RunFolder) -> Fetch:
    """Return how `examples` finds the records of a run."""
    return lambda source, ids: fetch(corpus, run, source, ids, allow_missing=True)


def _by_source(labels: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Yield rows of one source at a time, at most so many that their records fit in memory."""
    for source in pc.unique(labels["source"]).to_pylist():
        part = labels.filter(pc.equal(labels["source"], source))
        for start in range(0, part.num_rows, _FETCH):
            yield part.slice(start, _FETCH).to_pylist()


@dataclass(frozen=True, slots=True)
class _Maker:
    prompt: Prompt
    subsets: float
    seed: int
    tokenizer: Tokenizer | None
    room: int | None

    def example(self, row: dict[str, Any], record: Record | None) -> Example | LeftOut:
        who = (row["id"], row["source"], row["replicate"])
        reason = _unusable(self.prompt, row)
        if reason or record is None:
            return LeftOut(*who, reason or "record_missing")
        scored = [slot for slot in self.prompt.slots if row[slot] is not None]
        key = f"{self.seed}\0{row['source']}\0{row['id']}\0{row['replicate']}"
        slots = _subset(scored, self.subsets, key)
        user = self.prompt.user(record, row["replicate"], self.room, self.tokenizer, slots)
        if user is None:
            return LeftOut(*who, "too_long")
        reply = render_reply(self.prompt, row, user.order)
        return Example(*who, user.order, self.prompt.system, user.text, reply, user.notes)


def _unusable(prompt: Prompt, row: dict[str, Any]) -> str:
    """Return why a label cannot be trained on, or "".

    A reply without a closing line would teach the student to leave the line out although it is asked for.
    """
    if row["reason_unscored"]:
        return f"unscored:{row['reason_unscored']}"
    if all(row[slot] is None for slot in prompt.slots):
        return "unscored:missing_slot"
    return next((f"no_{c}" for c in ("overall", "recommendation", "domain_tag", "brief") if row[c] in (None, "")), "")


def _subset(slots: Sequence[str], share: float, key: str) -> list[str]:
    """Return all slots, or for a `share` of the keys a random part of them, both decided by the key alone."""
    if len(slots) < 2 or _uniform(key, "take part") >= share:
        return list(slots)
    size = 1 + int(_uniform(key, "size") * (len(slots) - 1))
    chosen = set(sorted(slots, key=lambda slot: _uniform(key, slot))[:size])
    return [slot for slot in slots if slot in chosen]


def _uniform(key: str, purpose: str) -> float:
    digest = blake2b(f"{key}\0{purpose}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)


def render_reply(prompt: Prompt, row: dict[str, Any], order: Sequence[str]) -> str:
    """Render a label in the card's grammar.

    Args:
        prompt: Gives slots and names.
        row: A row of `judgement_schema`, with a score in every slot of `order` and all four closing lines.
        order: Slots in the order of their lines.

    Returns:
        The reply. Scores have at most one decimal; a slot without a rationale ends after "/10".
    """
    rationales = dict(zip(prompt.slots, row["rationales"] or [""] * len(prompt.slots), strict=True))
    names = dict(zip(prompt.slots, prompt.names, strict=True))
    lines = []
    for slot in order:
        why = _line(rationales[slot])
        lines.append(f"[{slot}] {names[slot]}: {round(row[slot], 1):g}/10" + (f" — {why}" if why else ""))
    lines += [
        f"overall: {row['overall']:.0f}",
        f"training_recommendation: {row['recommendation']}",
        f"domain_tag: {_line(row['domain_tag'])}",
        f"brief: {_line(row['brief'])}",
    ]
    return "\n".join(lines)


def _line(text: str) -> str:
    """Return text on one line, without anything that a server would read as the end of a turn."""
    return defuse(" ".join(text.split()))[0]
