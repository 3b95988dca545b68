import shutil
from pathlib import Path

import pytest

from mira.reviewing.sample import sample_path
from support.review_world import Review


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Review, bytes]:
    review = Review(tmp_path_factory.mktemp("review"))
    return review, sample_path(review.run).read_bytes()


@pytest.fixture
def review(drawn: tuple[Review, bytes]) -> Review:
    """A run whose sample nobody has judged yet. Tests share the selection, and leave it as it is."""
    review, sample = drawn
    shutil.rmtree(review.run.human)
    review.run.human.mkdir()
    sample_path(review.run).write_bytes(sample)
    review.run.review.unlink(missing_ok=True)
    return review


@pytest.fixture
def own_review(tmp_path: Path) -> Review:
    """The same, for a test that selects anew."""
    return Review(tmp_path)
