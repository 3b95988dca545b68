"""The seam to every judge: teacher endpoint, recorded replies, batch files, served student, encoder student."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from mira.corpus.record import Record
from mira.rubric.judgement import Judgement

__all__ = ["Judge", "JudgeTask"]


class JudgeTask(NamedTuple):
    """One record to judge; `replicate` counts independent judgements of the same record from 0."""

    record: Record
    replicate: int = 0


class Judge(Protocol):
    """Anything that turns records into judgements.

    Attributes:
        identity: Hash of everything that may change an answer (model, prompt, rubric, sampling, weights).
        n_slots: Number of slots of its rubric.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102

    @property
    def n_slots(self) -> int: ...  # noqa: D102

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield exactly one judgement a task, in any order, pulling tasks lazily (bounded memory)."""
        ...
