"""From replies to one judgement: reading one, and the mean of several."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from mira.judging.expected import with_expected_scores
from mira.judging.grammar.reply import parse_reply, whole_reply
from mira.llm.responses.reply import Reply
from mira.rubric.judgement import Judgement
from mira.rubric.slots import slot_names
from mira.unscored import Unscored

__all__ = ["combine", "read_judgement"]


def read_judgement(
    reply: Reply, names: Sequence[str], *, id: str, source: str, replicate: int, judge: str, notes: tuple[str, ...]
) -> Judgement:
    """Return the judgement that a reply makes; with expected scores where it has log-probabilities.

    Args:
        reply: The reply.
        names: Dimension names in rubric order.
        id: Record id.
        source: The record's source.
        replicate: Which independent judgement this is.
        judge: Identity of the judge.
        notes: What was done to the record.
    """
    if reply.refused:
        return Judgement.unscored(
            id, source, len(names), Unscored.REFUSED, replicate=replicate, judge=judge, notes=notes
        )
    parsed = parse_reply(reply.text, names, truncated=reply.truncated)
    if not reply.text.strip() and (answer := whole_reply(reply.reasoning, names)):
        # A server that looks for thinking where the model does none files the whole answer under it.
        parsed, notes = answer, (*notes, "answer_in_reasoning")
    judgement = parsed.judgement(id, source, replicate=replicate, judge=judge, notes=notes)
    if not reply.tokens or judgement.reason_unscored is not None:
        return judgement
    return with_expected_scores(judgement, names, reply.tokens, truncated=reply.truncated)


def combine(judgements: Sequence[Judgement], failed: int = 0) -> Judgement:
    """Return the mean of several judgements of one record by one judge.

    A slot's score is the mean over the samples that scored it; its rationale, and the tag and brief, are those of the
    first sample that has them; the recommendation is the most frequent one, the first of equals. `raw_scores` are the
    first sample's digits.

    Args:
        judgements: At least one, in order of sample.
        failed: Samples that brought no reply.
    """
    first = judgements[0]
    if len(judgements) == 1 and not failed:
        return first
    scores = tuple(_mean(values) for values in zip(*(j.scores for j in judgements), strict=True))
    missing = {
        slot: first.missing.get(slot, Unscored.MISSING_SLOT)
        for slot, score in zip(slot_names(len(scores)), scores, strict=True)
        if score is None
    }
    verdicts = Counter(j.recommendation for j in judgements if j.recommendation is not None)
    rationales = tuple(
        next((text for text in texts if text), "")
        for texts in zip(*(j.rationales for j in judgements if j.rationales), strict=True)
    )
    notes = dict.fromkeys(note for j in judgements for note in j.notes)
    return replace(
        first,
        scores=scores,
        rationales=rationales,
        missing=missing,
        overall=_mean([j.overall for j in judgements]),
        recommendation=verdicts.most_common(1)[0][0] if verdicts else None,
        domain_tag=next((j.domain_tag for j in judgements if j.domain_tag), ""),
        brief=next((j.brief for j in judgements if j.brief), ""),
        reason_unscored=first.reason_unscored if len(missing) == len(scores) else None,
        notes=(*notes, f"samples:{len(judgements)}/{len(judgements) + failed}"),
        raw_scores=first.raw_scores or first.scores,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
