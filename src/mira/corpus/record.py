"""A record as every stage sees it: id, source, and the parts a judge reads."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Part", "Record", "Rejected", "Rejection"]


@dataclass(frozen=True, slots=True)
class Part:
    """A labelled piece of a record, such as the question of a `qa` record. The label of `text` records is ""."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source.

    Attributes:
        id: Given by the user, or the hash of source and content.
        source: Name of its source.
        family: Name of its family.
        parts: What a judge reads, in order; never empty, never all blank.
        row: Position of its line or row in its shard, counted from 0.
        n_tokens: Tokens of `text` by the run's tokenizer; 0 while not counted.
        left_out: Types of the content parts that are not text, of which only a placeholder is shown: "image_url".
    """

    id: str
    source: str
    family: str
    parts: tuple[Part, ...]
    row: int = 0
    n_tokens: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole record as plain text: parts under their labels."""
        if len(self.parts) == 1 and not self.parts[0].label:
            return self.parts[0].text
        return "\n\n".join(f"{p.label}:\n{p.text}" if p.label else p.text for p in self.parts)


class Rejection(StrEnum):
    """Why a line or row is not a record. The list is closed."""

    BAD_JSON = "bad_json"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_UTF8 = "invalid_utf8"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"  # the field is there, but of the wrong type
    EMPTY_TEXT = "empty_text"
    DUPLICATE_ID = "duplicate_id"
    TOO_LONG = "too_long"  # the line is longer than max_record_bytes
    TRUNCATED_FILE = "truncated_file"  # the file ends early or is damaged; stands for all that is lost after it


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line or row that is not a record.

    Attributes:
        row: Position in its shard, counted from 0.
        reason: Why.
        detail: For people: "docs.jsonl:17: field 'text' is missing".
    """

    row: int
    reason: Rejection
    detail: str
