"""Training examples as tokens on disk: memory does not grow with their number, and nothing is cut silently."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira.distillation.sft_chat import Chat
from mira.distillation.sft_data import Example, LeftOut
from mira.errors import RunError
from mira.files import atomic
from mira.progress import Log

__all__ = ["IGNORED", "Tokenized", "tokenize"]

IGNORED = -100
"""Label of a token that the loss does not count."""

_ROWS = 256
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


@dataclass(slots=True)
class Tokenized:
    """What became of a group's training labels.

    Attributes:
        path: Arrow stream of `input_ids` and `labels`, one row an example; prompt tokens are `IGNORED` in `labels`.
        prompts: Prompt tokens of each row.
        lengths: Prompt and reply tokens of each row.
        used: Source -> examples.
        left_out: Source -> reason -> labels that are not trained on.
        cut: Examples whose record was cut middle-out.
        subsets: Examples that ask for a part of the slots.
    """

    path: Path
    prompts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    used: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    cut: int = 0
    subsets: int = 0

    def counts(self) -> dict[str, Any]:
        """Return the counts as JSON; examples and labels left out add up to the labels."""
        return {
            "examples": len(self.lengths),
            "examples_by_source": dict(sorted(self.used.items())),
            "left_out": {source: dict(sorted(c.items())) for source, c in sorted(self.left_out.items())},
            "cut": self.cut,
            "slot_subsets": self.subsets,
            "tokens": int(self.lengths.sum()),
            "reply_tokens": int((self.lengths - self.prompts).sum()),
            "longest": int(self.lengths.max(initial=0)),
        }


def tokenize(
    items: Iterable[Example | LeftOut], chat: Chat, max_length: int, n_slots: int, path: Path, log: Log, total: int
) -> Tokenized:
    """Write examples as token ids, and count what is left out.

    Args:
        items: Examples, and labels that are left out already.
        chat: The student's chat form.
        max_length: Tokens of prompt and reply together; longer examples are left out as "too_long".
        n_slots: Slots of the rubric.
        path: Where the Arrow stream goes.
        log: Where progress goes.
        total: Number of labels.

    Raises:
        RunError: No example is left.
    """
    done = Tokenized(path)
    prompts: list[int] = []
    lengths: list[int] = []
    rows: list[dict[str, list[int]]] = []
    with atomic(path) as temporary, temporary.open("wb") as file, pa.ipc.new_stream(file, _SCHEMA) as stream:
        with log.task("tokenizing examples", total) as progress:
            for item in items:
                progress.advance()
                row = _row(item, chat, max_length) if isinstance(item, Example) else None
                if isinstance(item, LeftOut) or row is None:
                    reason = item.reason if isinstance(item, LeftOut) else "too_long"
                    done.left_out.setdefault(item.source, Counter())[reason] += 1
                    continue
                ids, n_prompt = row
                rows.append({"input_ids": ids, "labels": [IGNORED] * n_prompt + ids[n_prompt:]})
                prompts.append(n_prompt)
                lengths.append(len(ids))
                _count(done, item, n_slots)
                if len(rows) == _ROWS:
                    stream.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                    rows.clear()
        stream.write_table(pa.Table.from_pylist(rows, _SCHEMA))
    done.prompts, done.lengths = np.array(prompts, np.int64), np.array(lengths, np.int64)
    if not len(done.lengths):
        reasons: Counter[str] = sum(done.left_out.values(), Counter())
        told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        raise RunError(f"no label can be trained on: {told}", "Raise distill.sft.max_length, or label more records.")
    return done


def _row(example: Example, chat: Chat, max_length: int) -> tuple[list[int], int] | None:
    prompt, reply = chat.prompt_ids(example.system, example.user), chat.reply_ids(example.reply)
    fits = len(prompt) + len(reply) <= max_length
    return (prompt + reply, len(prompt)) if fits else None


def _count(done: Tokenized, example: Example, n_slots: int) -> None:
    done.used[example.source] += 1
    done.cut += any(note.startswith("cut:") for note in example.notes)
    done.subsets += len(example.slots) < n_slots
