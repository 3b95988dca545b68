"""Batch files of a run: a stage's LLM requests out, a provider's results back in.

Replies go into the run's journal, under the keys of live requests: the stage then finds them there.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from mira import corpus
from mira.config.settings import Config
from mira.discovery.free_judging import FreeJudging, free_sample
from mira.distillation.student import open_student
from mira.errors import ConfigError, RunError
from mira.grouping.groups import Group, load_groups
from mira.judging.judge import JudgeTask
from mira.judging.teacher import Teacher
from mira.labelling.labels import drawn_sample, judge_tasks
from mira.llm.journal.batch_files import Exported, Imported, export_batch, import_batch, outstanding
from mira.llm.journal.frames import KEY_BYTES
from mira.llm.journal.journal import Journal
from mira.llm.request import Request
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.files import write_bytes
from mira.run_folder.paths import RunFolder
from mira.run_folder.probe import probe

__all__ = ["export_requests", "import_results", "label_requests", "still_out", "teacher_requests"]


def export_requests(config: Config, stage: str, path: Path, log: Log) -> Exported:
    """Write the requests of a stage that the journal has no reply for, as batch lines.

    Args:
        config: The settings; the endpoint's model and sampling are part of every request, its address is not called.
        stage: "discover", "label" or "score". The stages before it must have run.
        path: The file; further ones beside it where a batch API's limits need several.
        log: Where progress goes.

    Raises:
        MiraError: There is no endpoint in the settings, or an earlier stage has not run.
    """
    probe(path, "--export")
    run = RunFolder(config.run)
    exported = _export_scores(config, run, path, log) if stage == "score" else _export(config, run, stage, path, log)
    write_bytes(_exported_keys(run, stage), exported.keys)
    return exported


def still_out(run: RunFolder, stage: str) -> tuple[int, int] | None:
    """Return, of a stage's last export, the requests without a reply in the journal, and all requests.

    Returns:
        None where the run has exported nothing for the stage.

    Raises:
        RunError: The journal cannot be read.
    """
    path = _exported_keys(run, stage)
    if not path.is_file():
        return None
    keys = path.read_bytes()
    with Journal(run.journal, "batch") as journal:
        return outstanding(keys, journal), len(keys) // KEY_BYTES


def _exported_keys(run: RunFolder, stage: str) -> Path:
    return run.journal / f"{stage}.exported"


def _export(config: Config, run: RunFolder, stage: str, path: Path, log: Log) -> Exported:
    if config.teacher.endpoint is None:
        raise ConfigError(
            "batch files need teacher.endpoint: its model and sampling are part of every request",
            "Add it to the settings; with teacher: {offline: true} nothing is sent to its address.",
        )
    with Teacher(config.teacher, config.discover, run, log) as teacher:
        return export_batch(teacher_requests(config, stage, teacher), teacher.journal, path)


def teacher_requests(config: Config, stage: str, teacher: Teacher) -> Iterator[Request]:
    """Yield what the teacher is asked in a stage, answered or not.

    Args:
        config: The settings.
        stage: "discover" or "label". The stages before it must have run.
        teacher: The open teacher; only its prompts and endpoint matter.

    Raises:
        MiraError: There is no endpoint in the settings, or an earlier stage has not run.
    """
    run = RunFolder(config.run)
    return _free(config, run, teacher) if stage == "discover" else _labels(config, run, teacher)


def import_results(run: RunFolder, paths: Sequence[Path]) -> Imported:
    """Put batch results into the run's journal, in any order, partial, with error lines among them.

    Raises:
        MiraError: A file cannot be read or is not a batch result.
    """
    with Journal(run.journal, "batch") as journal:
        return import_batch(paths, journal)


def _free(config: Config, run: RunFolder, teacher: Teacher) -> Iterator[Request]:
    settings = config.discover
    groups = [g for g in load_groups(run) if g.name not in settings.rubrics]
    samples = ((group, free_sample(config.corpus, run, group, settings.sample, config.seed)) for group in groups)
    return chain.from_iterable(FreeJudging(group, sample, settings, teacher).requests() for group, sample in samples)


def _labels(config: Config, run: RunFolder, teacher: Teacher) -> Iterator[Request]:
    for group in load_groups(run):
        if not run.rubric(group.name).is_file():
            raise RunError(f"{run.rubric(group.name)}: there is no rubric yet", "Run: mira discover CONFIG")
        rubric = Rubric.load(run.rubric(group.name), group.name)
        yield from label_requests(config, run, teacher, group, rubric)


def label_requests(config: Config, run: RunFolder, teacher: Teacher, group: Group, rubric: Rubric) -> Iterator[Request]:
    """Yield what the teacher is asked about a group's sample on a rubric, answered or not.

    Raises:
        ConfigError: Replies are recorded, so nothing is asked.
    """
    judge = teacher.judge(rubric)
    if judge.client is None:
        raise ConfigError("teacher.replies is set: there is nothing to ask", "Remove it to have the teacher asked.")
    sample = drawn_sample(config.label, config.seed, run, group)
    return judge.requests(judge_tasks(config.corpus, run, sample, {}))


def _export_scores(config: Config, run: RunFolder, path: Path, log: Log) -> Exported:
    shards = corpus.shards(config.corpus)

    def tasks(sources: Sequence[str]) -> Iterator[JudgeTask]:
        for shard in chain.from_iterable(shards[source] for source in sources):
            yield from map(JudgeTask, corpus.read(config.corpus, run, shard))

    exported = []
    groups = load_groups(run)
    for number, group in enumerate(groups):
        with open_student(config.students, run, group.name, log) as student:
            if student.client is None:
                raise ConfigError(f"{group.name}'s student runs here: there is nothing to export", "Run: mira score")
            target = path if len(groups) == 1 else path.with_name(f"{path.stem}-{group.name}{path.suffix}")
            exported.append(export_batch(student.requests(tasks(group.sources)), student.client.journal, target))
        log.note(f"  {group.name}: {exported[number].requests:,} requests")
    return Exported(
        tuple(p for e in exported for p in e.paths),
        sum(e.requests for e in exported),
        sum(e.answered for e in exported),
        sum(e.unsendable for e in exported),
        b"".join(e.keys for e in exported),
        tuple(p for e in exported for p in e.removed),
    )
