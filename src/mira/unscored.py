"""Why a score is missing."""

from enum import StrEnum

__all__ = ["Unscored"]


class Unscored(StrEnum):
    """Why a score is missing. The list is closed: every missing score has one of these."""

    OVERFLOW = "overflow"  # the record does not fit the judge's context, even when cut
    REFUSED = "refused"  # the endpoint's filter or the model declined to answer
    TRUNCATED = "truncated"  # the reply ended at its token limit before this slot
    UNPARSABLE = "unparsable"  # the reply holds no line of the grammar
    MISSING_SLOT = "missing_slot"  # the reply has no line for this slot
    NO_NUMBER = "no_number"  # the slot's line holds no score
    OUT_OF_RANGE = "out_of_range"  # the score is not in [0, 10] (or not out of 10)
    AMBIGUOUS = "ambiguous"  # a range, a choice, or different scores in several lines
    ENDPOINT_ERROR = "endpoint_error"  # no reply after all retries
    NOT_RECORDED = "not_recorded"  # no reply is recorded for this record, and none was asked for
    NOT_FINITE = "not_finite"  # the student produced NaN or infinity
