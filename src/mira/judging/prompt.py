"""The prompt of anchored judging: one system prompt for a whole group, one user message a record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Literal

from mira.corpus.families import find_family, split_group
from mira.corpus.record import Record
from mira.judging.fence import FENCE_VERSION, fenced_message
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.run_folder.files import hash_json
from mira.tokens import Tokenizer

__all__ = ["DEFAULT_CORPUS", "DEFAULT_JUSTIFICATION", "Prompt", "SlotOrder", "UserPrompt", "build_prompt", "records_of"]

SlotOrder = Literal["fixed", "permuted"]

DEFAULT_CORPUS = "training data for the mid-training of a code-oriented language model"
DEFAULT_JUSTIFICATION = "justification, at most 14 words, specific to the record"
_FORM_VERSION = 1
_CLOSING = """\
overall: <0-100>
training_recommendation: <keep | downsample | drop>
domain_tag: <short tag>
brief: <one-sentence summary>"""


@dataclass(frozen=True, slots=True)
class UserPrompt:
    """The user message of one record.

    Attributes:
        text: The message.
        notes: What was done to the record: "cut:1234" (tokens cut middle-out), "defused:2" (control tokens of chat
            templates in it, broken by an invisible space).
        order: Slots in the order in which they are asked.
    """

    text: str
    notes: tuple[str, ...]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Prompt:
    """How a group's records are put to a judge.

    The system prompt holds the rubric and its calibration references and is byte-identical for all records of the
    group, so that a server's prefix cache holds it once. What differs between records is in the user message.

    With `slot_order="permuted"` the lines of the user message's template stand in an order that depends on (record,
    replicate) alone. Each dimension keeps its own slot id wherever its line stands: so the parser, which goes by ids,
    undoes the order without knowing it, and what is permuted is the order in which a judge thinks of the slots.

    Attributes:
        family: Name of the family of the group's records.
        names: Dimension names, in rubric order: what `parse_reply` takes.
        slots: "A1", ... in rubric order.
        system: The system prompt.
        slot_order: "fixed" or "permuted".
        justification: What the template asks for beside a score.
    """

    family: str
    names: tuple[str, ...]
    slots: tuple[str, ...]
    system: str
    slot_order: SlotOrder = "fixed"
    justification: str = DEFAULT_JUSTIFICATION
    _system_tokens: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def hash(self) -> str:
        """Hash of all that defines the prompt: system, template, fence and order mode. 16 hex digits."""
        form = [_FORM_VERSION, FENCE_VERSION, str(self.family), self.slot_order]
        return hash_json([form, self.system, self.template(self.slots)])

    def template(self, slots: Sequence[str]) -> str:
        """Return the lines that a reply on `slots` must have."""
        names = dict(zip(self.slots, self.names, strict=True))
        lines = [f"[{slot}] {names[slot]}: <score>/10 — <{self.justification}>" for slot in slots]
        return "\n".join([*lines, _CLOSING])

    def order(self, record: Record, replicate: int = 0) -> tuple[str, ...]:
        """Return the order in which the slots of `record` are asked."""
        if self.slot_order == "fixed":
            return self.slots
        seed = f"{record.source}\0{record.id}\0{replicate}\0".encode("utf-8", "surrogatepass")
        return tuple(sorted(self.slots, key=lambda slot: blake2b(seed + slot.encode(), digest_size=8).digest()))

    def user(
        self,
        record: Record,
        replicate: int = 0,
        max_tokens: int | None = None,
        tokenizer: Tokenizer | None = None,
        slots: Sequence[str] | None = None,
    ) -> UserPrompt | None:
        """Return the user message of a record.

        Args:
            record: The record.
            replicate: Which independent judgement this is; part of a permuted order.
            max_tokens: Tokens that system prompt and user message may take together: the model's context minus the
                reply. None sends the record whole.
            tokenizer: The judge's; needed with `max_tokens`.
            slots: Ask for these slots only, e.g. the unmasked ones when a student is trained.

        Returns:
            The message, with the record's longest parts cut in their middle where it would not fit; None when it does
            not fit even so (the judge then gives `overflow`).
        """
        chosen = self.order(record, replicate)
        if slots is not None:
            chosen = tuple(slot for slot in chosen if slot in set(slots))
        ask = f"Reply with exactly these lines, in this order, and nothing else:\n{self.template(chosen)}"
        if max_tokens is None or tokenizer is None:
            message = fenced_message(record.parts, ask)
        else:
            message = fenced_message(record.parts, ask, max_tokens - self.system_tokens(tokenizer), tokenizer)
        return UserPrompt(message.text, message.notes, chosen) if message else None

    def system_tokens(self, tokenizer: Tokenizer) -> int:
        """Return the tokens of the system prompt, counted once per tokenizer."""
        found = self._system_tokens.get(tokenizer.name)
        if found is None:
            found = self._system_tokens[tokenizer.name] = tokenizer.count([self.system])[0]
        return found


def records_of(family: str, records: str | Mapping[str, str] = "") -> str:
    """Return what prompts call the records of a family: the given words, or the family's own."""
    given = records if isinstance(records, str) else records.get(family, "")
    return given or find_family(family).records


def build_prompt(
    rubric: Rubric,
    *,
    corpus: str = DEFAULT_CORPUS,
    slot_order: SlotOrder = "fixed",
    records: str | Mapping[str, str] = "",
    justification: str = DEFAULT_JUSTIFICATION,
) -> Prompt:
    """Return the prompt of a rubric.

    Args:
        rubric: The group's rubric; its name ("text_group_A") tells family and letter.
        corpus: What the records are judged as (`discover.corpus` in mira.yaml).
        slot_order: "fixed" is the card's; "permuted" by a hash of (record, replicate).
        records: What the records are, e.g. "a code-task documentation corpus", or family -> what they are
            (`discover.records`); by default a phrase for the family.
        justification: What the template asks for beside a score. The card says "justification".
    """
    family, letter = split_group(rubric.group)
    prompt = Prompt(
        family=family, names=tuple(a.name for a in rubric.anchors), slots=tuple(rubric.slots), system="",
        slot_order=slot_order, justification=justification,
    )  # fmt: skip
    n = len(rubric.anchors)
    form = "in exactly this form" if slot_order == "fixed" else "in this form, its slots in the order that is asked for"
    blocks = [
        f"You judge records of {records_of(family, records)} as {corpus}.\n"
        f"Score every record on the {n} fixed dimensions of rubric group {letter}. 0 = worthless on that dimension, "
        "10 = as good as training data gets; halves allowed; use the whole scale.",
        find_family(family).guide(n),
        "\n".join(
            ["The dimensions (with neighbouring names, to fix their meaning):", *map(_dimension, rubric.anchors)]
        ),
        _references(rubric),
        f"Reply for each record, {form}:\n{prompt.template(prompt.slots)}\n",
    ]
    return Prompt(
        family=family, names=prompt.names, slots=prompt.slots, system="\n\n".join(b for b in blocks if b),
        slot_order=slot_order, justification=justification,
    )  # fmt: skip


def _dimension(anchor: Anchor) -> str:
    near = [name for name in anchor.near_names if name != anchor.name]
    return f"[{anchor.slot}] {anchor.name}" + (f" (also: {', '.join(near)})" if near else "")


def _references(rubric: Rubric) -> str:
    """Return the references of the largest slots; of a rubric that has none at all, their exemplars."""
    bare = not any(anchor.references for anchor in rubric.anchors)
    lines = [
        f"[{anchor.slot}] {anchor.name}{_score(reference)} — {reference.reason}"
        for anchor in rubric.anchors[: rubric.n_referenced]
        for reference in ((anchor.exemplar,) if bare and anchor.exemplar.reason else anchor.references)
    ]
    return "\n".join(["Calibration references (real judgments, low / middle / high):", *lines]) if lines else ""


def _score(reference: Reference) -> str:
    return "" if reference.score is None else f": {reference.score:g}/10"
