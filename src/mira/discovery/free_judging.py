"""Free-form judging of a sample by a live teacher: requests out, judgment points back."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

from mira.config.settings import CorpusSettings, DiscoverSettings
from mira.corpus import fetch, sample_ids, tokenizer
from mira.corpus.record import Record
from mira.grouping.groups import Group
from mira.judging.free import build_free_prompt, parse_free_reply
from mira.judging.teacher import Teacher
from mira.llm.answer import Answer
from mira.llm.progress import watch
from mira.llm.request import Request, about_tokens
from mira.llm.responses.reply import Reply
from mira.llm.stats import Stats
from mira.progress import Log
from mira.rubric.points import JudgmentPoint
from mira.run_folder.paths import RunFolder

__all__ = ["FreeJudging", "free_sample"]


def free_sample(corpus: CorpusSettings, run: RunFolder, group: Group, n: int, seed: int) -> list[Record]:
    """Draw the records that a live teacher judges freely: `n` per source of a group."""
    return [
        record
        for source in group.sources
        for record in fetch(corpus, run, source, sample_ids(run, source, n, seed, "discover"))
    ]


class FreeJudging:
    """A group's sample, put to the teacher without a rubric.

    Args:
        group: The group.
        records: Its sample; see `free_sample`.
        settings: What the teacher is asked.
        teacher: The open teacher.

    Attributes:
        records: The sample.
        failures: Source -> reason -> records without a single judgment point, after `judge`.
        without_reply: Requests without a reply, after `judge`.
        asked: Keys of the requests so far.
    """

    def __init__(self, group: Group, records: list[Record], settings: DiscoverSettings, teacher: Teacher) -> None:
        self._prompt = build_free_prompt(
            group.family, corpus=settings.corpus, records=settings.records, points=settings.slots
        )
        self._client = teacher.client(self._prompt.hash)
        self._group = group
        self.failures: dict[str, Counter[str]] = {}
        self.records = records
        self._budget = teacher.failures(len(records))
        self.without_reply = 0
        self.asked: list[bytes] = []

    @property
    def evidence(self) -> str:
        """A reply without any judgment point, as the end of a message; see `Failures.evidence`."""
        return self._budget.evidence

    @property
    def stats(self) -> Stats:
        """How the work is doing."""
        return self._client.stats

    def requests(self) -> Iterator[Request]:
        """Yield one request a record that fits the teacher's context."""
        settings = self._client.settings
        counter = tokenizer(settings.tokenizer)
        for record in self.records:
            user = self._prompt.user(record, 0, settings.max_model_len - settings.max_tokens, counter)
            if user is None:
                self._fail(record.source, "overflow")
                continue
            messages = [{"role": "system", "content": self._prompt.system}, {"role": "user", "content": user.text}]
            tokens = about_tokens(self._prompt.system + user.text)
            tag = f"free {record.source}/{record.id}"
            request = self._client.request(messages, tokens=tokens, source=record.source, tag=tag, context=record)
            self.asked.append(request.key)
            yield request

    def judge(self, log: Log) -> list[JudgmentPoint]:
        """Return all judgment points, by source and record; every reply is journalled first.

        Raises:
            JudgeError: The endpoint cannot be used, a limit was reached, or more records brought no judgment point
                than the failure budget allows.
        """
        points: list[JudgmentPoint] = []
        with (
            watch(self._client.stats, log, f"free judging {self._group.name}", len(self.records)) as task,
            closing(self._client.complete(self.requests())) as answers,
        ):
            for answer in answers:
                points += self._read(answer)
                task.advance()
        return sorted(points, key=lambda p: (p.source, p.record))

    def _read(self, answer: Answer) -> list[JudgmentPoint]:
        record, reply = answer.asked.context, answer.result
        if not isinstance(reply, Reply):
            self.without_reply += 1
            self._fail(record.source, reply.reason)
            self._budget.add(reply.reason)
            return []
        parsed = parse_free_reply(reply.text, record.id, record.source, truncated=reply.truncated)
        if parsed.reason_unscored:
            self._fail(record.source, parsed.reason_unscored)
        self._budget.add(parsed.reason_unscored, reply)
        return list(parsed.points)

    def _fail(self, source: str, reason: str) -> None:
        self.failures.setdefault(source, Counter())[str(reason)] += 1
