"""Records as a head reads them: their text, and its token ids. The same for every way to score."""

from pathlib import Path
from typing import Any, NamedTuple

from mira.corpus.record import Part, Record
from mira.errors import InputError
from mira.judging.fence import cut_parts, defuse
from mira.tokens import tokenizer

__all__ = ["Reader", "Reading"]


class Reading(NamedTuple):
    """A record's text, its token ids with special tokens, and what was done to it to fit ("cut:1234")."""

    text: str
    ids: list[int]
    notes: tuple[str, ...]


class Reader:
    """Reads records with a pinned tokenizer; long ones are cut in the middle, the longest part first.

    Args:
        path: The tokenizer.json.
        max_length: Tokens at most, special tokens included.

    Raises:
        InputError: The tokenizer cannot be read.
    """

    def __init__(self, path: Path, max_length: int) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - slow to import

        try:
            self._loaded: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path}: cannot be read: {error}", "Train or pull the bundle again.") from None
        self._loaded.encode_special_tokens = True  # "[SEP]" in a record is text
        self._loaded.no_truncation()
        self._loaded.no_padding()
        self._plain = tokenizer(str(path))
        self._max_length = max_length
        self._special = self._loaded.num_special_tokens_to_add(False)

    def read(self, record: Record, max_length: int | None = None) -> Reading:
        """Return what the model reads of a record; with `max_length`, at most so many tokens of it."""
        most = min(max_length or self._max_length, self._max_length)
        parts = tuple(Part(p.label, defuse(p.text)[0]) for p in record.parts)
        text = _text(parts)
        ids = self._ids(text)
        if len(ids) <= most:
            return Reading(text, ids, ())
        return self._cut(parts, most) or self._cut((Part("", text),), most) or self._head(text, most)

    def _cut(self, parts: tuple[Part, ...], most: int) -> Reading | None:
        room = (
            most
            - self._special
            - (self._count(_text(tuple(Part(p.label, "") for p in parts))) if len(parts) > 1 else 0)
        )
        for _ in range(6):  # cutting may join tokens differently: what is still too much is taken off the room
            cut = cut_parts(parts, room, self._plain)
            if cut is None:
                return None
            text = _text(cut.parts)
            ids = self._ids(text)
            if len(ids) <= most:
                return Reading(text, ids, (f"cut:{cut.tokens}",))
            room -= len(ids) - most + 4
        return None

    def _head(self, text: str, most: int) -> Reading:
        """Keep the beginning, where no room is left for both ends."""
        all_ids = self._plain.encode(text)
        keep = most - self._special
        while True:
            head = self._plain.decode(all_ids[:keep]).rstrip("\ufffd")
            ids = self._ids(head)
            if len(ids) <= most or not keep:
                return Reading(head, ids[:most], (f"cut:{len(all_ids) - keep}",))
            keep = max(0, keep - (len(ids) - most))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._loaded.encode(text).ids
        return ids

    def _count(self, text: str) -> int:
        return self._plain.count([text])[0]


def _text(parts: tuple[Part, ...]) -> str:
    return Record("", "", "", parts).text
