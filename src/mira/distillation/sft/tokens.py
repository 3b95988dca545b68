"""Training examples as tokens on disk: memory does not grow with their number, and nothing is cut silently."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from mira.config.settings import SftSettings
from mira.distillation.sft.chat import Chat
from mira.distillation.sft.examples import Example, LeftOut, Tally
from mira.errors import RunError
from mira.progress import Log
from mira.run_folder.files import atomic

__all__ = ["IGNORED", "tokenize"]

IGNORED = -100
"""Label of a token that the loss does not count."""

_ROWS = 256
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


def tokenize(
    items: Iterable[Example | LeftOut],
    chat: Chat,
    settings: SftSettings,
    n_slots: int,
    path: Path,
    log: Log,
    total: int,
) -> Tally:
    """Write examples as token ids, and count what is left out.

    Args:
        items: Examples, and labels that are left out already.
        chat: The student's chat form.
        settings: `max_length` and `max_reply`: an example whose prompt leaves less than `max_reply` tokens would be
            cut when the student is served; it is left out as "too_long", as is one that is longer in all.
        n_slots: Slots of the rubric.
        path: Where the Arrow stream of `input_ids` and `labels` goes, one row an example; prompt tokens are `IGNORED`
            in `labels`.
        log: Where progress goes.
        total: Number of labels.

    Raises:
        RunError: No example is left.
    """
    done = Tally()
    rows: list[dict[str, list[int]]] = []
    with atomic(path) as temporary, temporary.open("wb") as file, pa.ipc.new_stream(file, _SCHEMA) as stream:
        with log.task("tokenizing examples", total) as progress:
            for label in items:
                item, prompt, reply = _ids(label, chat, settings)
                progress.advance()
                done.add(item, len(prompt), len(reply), n_slots)
                if isinstance(item, Example):
                    rows.append({"input_ids": prompt + reply, "labels": [IGNORED] * len(prompt) + reply})
                if len(rows) == _ROWS:
                    stream.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                    rows.clear()
        stream.write_table(pa.Table.from_pylist(rows, _SCHEMA))
    if not done.lengths:
        reasons: Counter[str] = sum(done.left_out.values(), Counter())
        told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        raise RunError(f"no label can be trained on: {told}", "Raise distill.sft.max_length, or label more records.")
    return done


def _ids(item: Example | LeftOut, chat: Chat, settings: SftSettings) -> tuple[Example | LeftOut, list[int], list[int]]:
    if isinstance(item, LeftOut):
        return item, [], []
    prompt, reply = chat.prompt_ids(item.system, item.user), chat.reply_ids(item.reply)
    room = settings.max_length - settings.max_reply
    fits = len(prompt) <= room and len(prompt) + len(reply) <= settings.max_length
    return (item if fits else item.left_out("too_long")), prompt, reply
