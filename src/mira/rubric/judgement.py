"""A judgement: what one judge says of one record, and its columnar form.

A missing score stays missing, with a reason; it is never 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from mira.rubric.slots import slot_names
from mira.unscored import Unscored

__all__ = ["Judgement", "Recommendation", "judgement_schema", "judgements_table"]


class Recommendation(StrEnum):
    """What the judge would do with the record."""

    KEEP = "keep"
    DOWNSAMPLE = "downsample"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judge's reply on one record.

    Attributes:
        id: Record id.
        source: The record's source.
        scores: One score in [0, 10] or None per slot, in rubric order.
        rationales: One rationale per slot ("" if it is missing); empty for judges that give none.
        missing: Slot ("A3") -> why its score is missing. Empty when every slot is scored.
        overall: 0-100, or None.
        recommendation: The judge's verdict, or None.
        domain_tag: Short free tag ("" when absent).
        brief: One sentence ("" when absent).
        reason_unscored: Set when no slot is scored at all.
        replicate: 0 for the first judgement of a record, 1 for an independent second one, ...
        judge: Identity of the judge: hash of model, prompt, rubric and sampling.
        notes: What was done to the record before judging ("cut:1234" = tokens cut middle-out), or by the parser.
        raw_scores: The digits as decoded, where `scores` holds expected scores; else None.
        spread: Standard deviation of each slot's score over the windows that a long record was judged in; None for a
            record that was judged at once.
        windows: Number of windows; 0 where the judge sees records whole.
    """

    id: str
    source: str
    scores: tuple[float | None, ...]
    rationales: tuple[str, ...] = ()
    missing: Mapping[str, Unscored] = field(default_factory=dict)
    overall: float | None = None
    recommendation: Recommendation | None = None
    domain_tag: str = ""
    brief: str = ""
    reason_unscored: Unscored | None = None
    replicate: int = 0
    judge: str = ""
    notes: tuple[str, ...] = ()
    raw_scores: tuple[float | None, ...] | None = None
    spread: tuple[float | None, ...] | None = None
    windows: int = 0

    @classmethod
    def unscored(
        cls,
        id: str,
        source: str,
        n_slots: int,
        reason: Unscored,
        *,
        replicate: int = 0,
        judge: str = "",
        notes: tuple[str, ...] = (),
    ) -> "Judgement":
        """Return a judgement without a single score, and the reason."""
        return cls(
            id=id, source=source, scores=(None,) * n_slots, missing=dict.fromkeys(slot_names(n_slots), reason),
            reason_unscored=reason, replicate=replicate, judge=judge, notes=notes,
        )  # fmt: skip


def judgement_schema(n_slots: int) -> pa.Schema:
    """Return the columns of labels and score sidecars.

    `missing` holds "A3=missing_slot,A9=out_of_range" or null; `notes` is joined by ";" or null.
    """
    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("replicate", pa.int16()),
            *[(slot, pa.float32()) for slot in slot_names(n_slots)],
            ("overall", pa.float32()),
            ("recommendation", pa.string()),
            ("domain_tag", pa.string()),
            ("brief", pa.string()),
            ("rationales", pa.list_(pa.string())),
            ("missing", pa.string()),
            ("reason_unscored", pa.string()),
            ("notes", pa.string()),
            ("judge", pa.string()),
        ]
    )


def judgements_table(judgements: Sequence[Judgement], n_slots: int) -> pa.Table:
    """Return judgements as a table of `judgement_schema(n_slots)`, one row each, in the given order."""
    columns: dict[str, Iterable[object]] = {
        "id": (j.id for j in judgements),
        "source": (j.source for j in judgements),
        "replicate": (j.replicate for j in judgements),
        **{slot: [j.scores[i] for j in judgements] for i, slot in enumerate(slot_names(n_slots))},
        "overall": (j.overall for j in judgements),
        "recommendation": (j.recommendation for j in judgements),
        "domain_tag": (j.domain_tag or None for j in judgements),
        "brief": (j.brief or None for j in judgements),
        "rationales": (list(j.rationales) or None for j in judgements),
        "missing": (",".join(f"{s}={r}" for s, r in j.missing.items()) or None for j in judgements),
        "reason_unscored": (j.reason_unscored for j in judgements),
        "notes": (";".join(j.notes) or None for j in judgements),
        "judge": (j.judge for j in judgements),
    }
    schema = judgement_schema(n_slots)
    arrays = [pa.array(_plain(columns[f.name]), type=f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _plain(values: Iterable[object]) -> Iterator[object]:
    for value in values:
        yield str(value) if isinstance(value, StrEnum) else value
