"""The teacher of a run: a live endpoint with its journal, or recorded replies."""

from contextlib import ExitStack
from types import TracebackType

from mira import plugins
from mira.config.settings import DiscoverSettings, TeacherSettings
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import Judge
from mira.judging.prompt import Prompt, build_prompt
from mira.judging.recorded import RecordedJudge
from mira.llm.client import Client
from mira.llm.cost import current_spending
from mira.llm.failures import Failures
from mira.llm.journal.journal import Journal
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

__all__ = ["Teacher"]


class Teacher:
    """Opens what the teacher needs and closes it; a context manager.

    Args:
        settings: Who the teacher is, and what may be spent.
        discover: What prompts call the records.
        run: The run folder, for the journal.
        log: Where progress goes.
    """

    def __init__(self, settings: TeacherSettings, discover: DiscoverSettings, run: RunFolder, log: Log) -> None:
        self._settings, self._discover, self._run, self._log = settings, discover, run, log
        self._spending = current_spending(settings)
        self._stack = ExitStack()
        self._journal: Journal | None = None

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def judge(self, rubric: Rubric) -> Judge:
        """Return the judge on a rubric: recorded replies if given, else the judge that `teacher.judge` names.

        Raises:
            MiraError: The recording or the endpoint cannot be used, or the package of the judge cannot be imported.
        """
        teacher = self._settings
        if teacher.replies:
            return RecordedJudge(teacher.replies, rubric)
        if teacher.judge == "built-in":
            assert teacher.endpoint is not None, "check_teacher comes first"
            return EndpointJudge(
                teacher.endpoint, rubric, self.prompt(rubric), self.journal, spending=self._spending,
                offline=teacher.offline, log=self._log,
            )  # fmt: skip
        judge: Judge = plugins.load(plugins.JUDGES, teacher.judge)(teacher, rubric, self.prompt(rubric), self.journal)
        return judge

    def prompt(self, rubric: Rubric) -> Prompt:
        """Return how records are put to the teacher."""
        endpoint = self._settings.endpoint
        order = endpoint.slot_order if endpoint else "fixed"
        return build_prompt(rubric, corpus=self._discover.corpus, records=self._discover.records, slot_order=order)

    def client(self, purpose: str) -> Client:
        """Return the stream of requests below, for free-form judging."""
        settings = self._settings.endpoint
        assert settings is not None, "check_teacher comes first"
        offline = self._settings.offline
        return Client(settings, self.journal, purpose, spending=self._spending, offline=offline, log=self._log)

    def failures(self, planned: int) -> Failures:
        """Return the failure budget of so many records."""
        return Failures(planned, self._settings.failure_budget, self._run.journal)

    @property
    def journal(self) -> Journal:
        """The run's journal, opened when first needed."""
        if self._journal is None:
            self._journal = self._stack.enter_context(Journal(self._run.journal, "teacher"))
        return self._journal
