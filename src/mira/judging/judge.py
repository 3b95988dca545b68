"""The seam to every judge: teacher endpoint, recorded replies, batch files, served student, encoder student."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from mira.corpus.record import Record
from mira.llm.client import Client
from mira.llm.failures import Failures
from mira.llm.request import Request
from mira.llm.stats import Stats
from mira.rubric.judgement import Judgement

__all__ = ["Judge", "JudgeTask"]


class JudgeTask(NamedTuple):
    """One record to judge; `replicate` counts independent judgements of the same record from 0."""

    record: Record
    replicate: int = 0


class Judge(Protocol):
    """Anything that turns records into judgements. Subclass it: `identity`, `n_slots` and `judge` must be given.

    Attributes:
        identity: Hash of everything that may change an answer (model, prompt, rubric, sampling, weights).
        n_slots: Number of slots of its rubric.
        failures: Counts the judgements, for judges that can stop before all tasks are judged; None by default.
        windowed: Whether long records are judged in windows, so that judgements have a spread.
    """

    identity: str
    n_slots: int
    failures: Failures | None = None
    windowed: bool = False

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield exactly one judgement per task, in any order, pulling tasks lazily (bounded memory)."""
        ...

    @property
    def client(self) -> Client | None:
        """The client that sends its requests; None for a judge that asks no endpoint."""
        return None

    @property
    def stats(self) -> Stats | None:
        """Counts of its requests; None for a judge that asks no endpoint."""
        return self.client.stats if self.client else None

    def requests(self, tasks: Iterable[JudgeTask]) -> Iterator[Request]:
        """Yield the requests that the tasks need, for batch files; none for a judge that asks no endpoint."""
        return iter(())

    def ids(self, source: str) -> Mapping[str, int]:
        """Return record id -> number of judgements, for a judge that knows only some records; {} by default."""
        return {}
