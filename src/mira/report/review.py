"""What review.json says: people's judgements beside selection, teacher and student."""

from mira.reviewing.results import ReviewResult
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result

__all__ = ["review_view"]


def review_view(run: RunFolder) -> ReviewResult | None:
    """Read review.json; None if it is missing, or if nobody has judged a record."""
    if not run.review.is_file():
        return None
    result = read_result(ReviewResult, run.review)
    return result if result.judged else None
