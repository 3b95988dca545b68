"""A run with a selection, a sample of it, and reviewers who follow a rule."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mira.config.settings import Config
from mira.reviewing.journal import HumanJudgement, add
from mira.reviewing.sample import Card, Sample, draw
from support.report_project import Project, project


class Review:
    """A finished run whose sample is drawn."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self._begin(project(folder, records=60), {"sample": 60, **settings})

    @classmethod
    def of(cls, made: Project, **settings: object) -> "Review":
        """Return a review of a project of one's own."""
        review = cls.__new__(cls)
        review._begin(made, settings)
        return review

    def _begin(self, made: Project, settings: Mapping[str, object]) -> None:
        self.project, self.run = made, made.run
        made.select(budget="50%", scope="source")
        config = made.config(write_selected=False, budget="50%", scope="source")
        self.config: Config = config.model_copy(update={"review": config.review.model_copy(update=dict(settings))})
        self.sample: Sample = draw(self.config.review, self.config.seed, self.run)

    def judge(self, reviewer: str, rule: Callable[[Card], str], n: int = 1000, **more: Any) -> None:
        """Have a reviewer judge the first cards by a rule."""
        cards = self.sample.cards[:n]
        add(self.run, [HumanJudgement(c.source, c.id, reviewer, rule(c), **more) for c in cards])
