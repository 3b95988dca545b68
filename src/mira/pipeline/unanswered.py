"""What the teacher has still to be asked: a stage's requests that the run's journal holds no reply for."""

from collections import Counter
from dataclasses import dataclass

from mira.config.settings import Config
from mira.judging.teacher import Teacher
from mira.llm.journal.reader import JournalReader
from mira.pipeline.batch import teacher_requests
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.run_folder.scratch import scratch_folder

__all__ = ["Unanswered", "count_unanswered"]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """How far a stage's requests are answered.

    Attributes:
        left: Source -> requests without a reply.
        answered: Requests with one.
    """

    left: dict[str, int]
    answered: int


def count_unanswered(config: Config, stage: str, log: Log) -> Unanswered | None:
    """Count the requests of `discover` or `label` that are answered; None where the journal holds no reply at all.

    The prompts are made as the stage would make them; the journal is only read, so another process may write it.

    Args:
        config: The settings, with a teacher's endpoint.
        stage: "discover" or "label". The stages before it must be up to date.
        log: Where progress goes.

    Raises:
        MiraError: An earlier stage's output is damaged.
    """
    known = JournalReader(RunFolder(config.run).journal)
    if not len(known):
        return None
    left: Counter[str] = Counter()
    seen: set[bytes] = set()
    answered = 0
    with (
        # Nothing is looked up in the teacher's journal, and opening the run's would keep a running stage out of it.
        scratch_folder() as folder,
        Teacher(config.teacher, config.discover.corpus, RunFolder(folder), log) as teacher,
        log.task(f"counting what {stage} has replies for") as task,
    ):
        for request in teacher_requests(config, stage, teacher):
            task.advance()
            if request.unsendable or request.key in seen:
                continue
            seen.add(request.key)
            if known.count([request.key]):
                answered += 1
            else:
                left[request.source] += 1
    return Unanswered(dict(left), answered)
