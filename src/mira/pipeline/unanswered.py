"""What the teacher has still to be asked: requests of discover and label that the run's journal holds no reply for.

Groups and rubrics are those that a run would make, as far as they are known before it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mira.config.settings import Config
from mira.discovery.discovered import asked_hash, would_be_discovered
from mira.discovery.free_judging import FreeJudging, free_sample
from mira.embedding import load_embedder
from mira.grouping.groups import Group, load_groups
from mira.grouping.stage import Joined, group_sources
from mira.judging.teacher import Teacher
from mira.llm.journal.reader import JournalReader
from mira.llm.request import Request
from mira.pipeline.batch import label_requests
from mira.pipeline.runner import StageState
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder
from mira.run_folder.scratch import scratch_folder

__all__ = ["SourceCalls", "Unanswered", "count_unanswered"]


@dataclass(frozen=True, slots=True)
class SourceCalls:
    """What the teacher would be asked about a source.

    Attributes:
        calls: Requests without a reply.
        why: Why there are any.
        at_most: Whether it may be fewer: the rubric is not known yet.
    """

    calls: int
    why: str = ""
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Unanswered:
    """How far a stage's requests are answered.

    Attributes:
        sources: Source -> what would be asked; only sources with requests without a reply.
        answered: Requests with one.
    """

    sources: dict[str, SourceCalls] = field(default_factory=dict)
    answered: int = 0

    @property
    def left(self) -> dict[str, int]:
        """Source -> requests without a reply, at most."""
        return {source: asked.calls for source, asked in self.sources.items()}


def count_unanswered(
    config: Config, states: Iterable[StageState], calls: Mapping[str, int], log: Log
) -> dict[str, Unanswered]:
    """Count the requests of discover and label that are answered.

    The prompts are made as the stages would make them; the journal is only read, so another process may write it.

    Args:
        config: The settings.
        states: The stages' states; index is up to date.
        calls: Source -> requests for its labels at most, for groups whose rubric is not known yet.
        log: Where progress goes.

    Returns:
        "discover" and "label" -> their requests, as far as these stages would ask a live teacher. Empty where the
        journal holds no reply at all: everything is asked then.

    Raises:
        MiraError: The sources cannot be grouped, or an earlier stage's output is damaged.
    """
    run, all_states = RunFolder(config.run), {state.stage.name: state for state in states}
    stale = {name: state for name, state in all_states.items() if state.reasons}
    known = JournalReader(run.journal)
    if not len(known) or not stale.keys() & {"discover", "label"} or config.teacher.endpoint is None:
        return {}
    joined: dict[str, Joined] = {}
    if "group" in stale:
        grouping = group_sources(config, run, log)
        groups, joined = grouping.groups, {j.source: j for j in grouping.joined}
    else:
        groups = load_groups(run)
    found: dict[str, Unanswered] = {}
    with (
        # Nothing is looked up in the teacher's journal, and opening the run's would keep a running stage out of it.
        scratch_folder() as folder,
        Teacher(config.teacher, config.discover, RunFolder(folder), log) as teacher,
        log.task("counting what the journal has replies for") as task,
    ):
        count = _Count(known, task.advance)
        rubrics = {g.name: _settled(config, run, g.name, "discover" not in stale) for g in groups}
        if "discover" in stale and not config.teacher.free_judgments:
            count.start()
            for group in (g for g in groups if g.name not in config.discover.rubrics):
                sample = free_sample(config.corpus, run, group, config.discover.sample, config.seed)
                judging = FreeJudging(group, sample, config.discover, teacher)
                if count.all_answered(judging.requests()):
                    embedder = load_embedder(config.embedding)
                    rubrics[group.name] = would_be_discovered(
                        config.discover, config.seed, run, group.name, asked_hash(judging.asked), embedder
                    )
            found["discover"] = count.result({})
        if "label" in stale and not config.teacher.replies and config.teacher.judge == "built-in":
            count.start()
            why: dict[str, str] = {}
            unknown: dict[str, int] = {}
            for group in groups:
                rubric = rubrics[group.name]
                if rubric is None:
                    unknown |= {source: calls.get(source, 0) for source in group.sources}
                else:
                    count.all_answered(label_requests(config, run, teacher, group, rubric))
                same = rubric is not None and _is_in_use(rubric, all_states["discover"], config.discover.references)
                why |= _reasons(group, rubric, same, joined, stale["label"])
            found["label"] = count.result(why, unknown)
    return found


class _Count:
    """Counts requests by whether the journal has a reply; equal requests count once."""

    def __init__(self, known: JournalReader, advance: Callable[[], None]) -> None:
        self._known, self._advance = known, advance
        self.start()

    def start(self) -> None:
        self._left: Counter[str] = Counter()
        self._answered = 0
        self._seen: set[bytes] = set()

    def all_answered(self, requests: Iterable[Request]) -> bool:
        """Count the requests; return whether each has a reply."""
        before = self._left.total()
        for request in requests:
            self._advance()
            if request.unsendable or request.key in self._seen:
                continue
            self._seen.add(request.key)
            if self._known.count([request.key]):
                self._answered += 1
            else:
                self._left[request.source] += 1
        return self._left.total() == before

    def result(self, why: Mapping[str, str], unknown: Mapping[str, int] = {}) -> Unanswered:
        sources = {source: SourceCalls(n, why.get(source, "")) for source, n in self._left.items()}
        sources |= {source: SourceCalls(n, why.get(source, ""), at_most=True) for source, n in unknown.items()}
        return Unanswered(sources, self._answered)


def _settled(config: Config, run: RunFolder, group: str, discovered: bool) -> Rubric | None:
    """Return a group's rubric where no discovery is needed to know it."""
    if given := config.discover.rubrics.get(group):
        return Rubric.load(Path(given), group)
    return Rubric.load(run.rubric(group), group) if discovered else None


def _is_in_use(rubric: Rubric, discover: StageState, references: int) -> bool:
    """Return whether a rubric is the one that the last run of discover gave its group, as far as that is known."""
    if discover.record is None:
        return True
    summary = discover.record["summary"]
    known = (summary.get("groups") or {}).get(rubric.group, {}).get("rubric")
    return known in (rubric.hash, replace(rubric, n_referenced=references).hash)


def _reasons(
    group: Group, rubric: Rubric | None, same: bool, joined: Mapping[str, Joined], state: StageState
) -> dict[str, str]:
    """Return source -> why labels of it may be lacking."""
    summary = state.record["summary"] if state.record else {}
    labelled = {source for entry in (summary.get("groups") or {}).values() for source in entry["records"]}
    changed = "; ".join(reason for reason in state.reasons if reason.endswith(" changed"))
    if rubric is None:
        why = f"the rubric of {group.name} may be discovered anew"
    elif not same:
        why = f"{group.name} has another rubric"
    else:
        why = changed or "its replies are not in the journal"
    new = {s: f"new source, {joined[s]}" if s in joined else f"new source in {group.name}" for s in group.sources}
    return {s: why if s in labelled or not labelled else new[s] for s in group.sources}
