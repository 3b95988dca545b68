"""The teacher of a run: a live endpoint with its journal, or recorded replies."""

from contextlib import ExitStack
from types import TracebackType

from mira.config.settings import Config
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import Judge
from mira.judging.prompt import Prompt, build_prompt
from mira.judging.recorded import RecordedJudge
from mira.llm.client import Client
from mira.llm.cost import current_spending
from mira.llm.journal.journal import Journal
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

__all__ = ["Teacher"]


class Teacher:
    """Opens what the teacher needs and closes it; a context manager.

    Args:
        config: The settings.
        run: The run folder, for the journal.
        log: Where progress goes.
    """

    def __init__(self, config: Config, run: RunFolder, log: Log) -> None:
        self._config, self._run, self._log = config, run, log
        self._spending = current_spending(config.teacher)
        self._stack = ExitStack()
        self._journal: Journal | None = None

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def judge(self, rubric: Rubric) -> Judge:
        """Return the judge on a rubric: recorded replies where they are given, else the live endpoint.

        Raises:
            MiraError: The recording or the endpoint cannot be used.
        """
        if self._config.teacher.replies:
            return RecordedJudge(self._config.teacher.replies, rubric)
        settings = self._config.teacher.endpoint
        assert settings is not None, "check_teacher comes first"
        return EndpointJudge(
            settings, rubric, self.prompt(rubric), self.journal, spending=self._spending,
            offline=self._config.teacher.offline, log=self._log,
        )  # fmt: skip

    def prompt(self, rubric: Rubric) -> Prompt:
        """Return how records are put to the teacher."""
        endpoint = self._config.teacher.endpoint
        order = endpoint.slot_order if endpoint else "fixed"
        return build_prompt(rubric, corpus=self._config.discover.corpus, slot_order=order)

    def client(self, purpose: str) -> Client:
        """Return the stream of requests below, for free-form judging."""
        settings = self._config.teacher.endpoint
        assert settings is not None, "check_teacher comes first"
        offline = self._config.teacher.offline
        return Client(settings, self.journal, purpose, spending=self._spending, offline=offline, log=self._log)

    @property
    def journal(self) -> Journal:
        """The run's journal, opened when first needed."""
        if self._journal is None:
            self._journal = self._stack.enter_context(Journal(self._run.journal, "teacher"))
        return self._journal
