"""A worker's work: its share of the shards of one step, without the run's lock."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from mira.cluster.ready import check_ready, find_step
from mira.config.settings import Config
from mira.errors import MiraError
from mira.leased.shards import do_shards
from mira.llm.cost import shared_spending
from mira.pipeline.runner import unwritable
from mira.pipeline.workers_notes import note_files
from mira.progress import Log, Quiet
from mira.run_folder.files import check_writable
from mira.run_folder.paths import RunFolder
from mira.run_folder.probe import check_reachable
from mira.run_folder.receipts import receipts
from mira.run_folder.working_copy import refresh
from mira.sharing.worker import as_worker
from mira.stage import ShardItem, ShardStep, Share, all_shards, worker_of

__all__ = ["Worked", "as_array", "left_over", "work"]


_NOTED_S = 10.0  # what a killed worker wrote since its last note may be done again where the stage had run before


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker has done.

    Attributes:
        stage: The step.
        share: Which shards were this worker's.
        shards: How many those are.
        done: Shards that were done now.
        kept: Shards that were done before.
        failed: "source/shard" -> why it could not be done.
    """

    stage: str
    share: Share
    shards: int = 0
    done: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def work(config: Config, stage: str, share: Share, log: Log) -> Worked:
    """Do a worker's share of the shards of a step. What is done already is kept, and nothing is removed.

    A shard that cannot be done does not stop the others.

    Args:
        config: The settings.
        stage: Name of the step: index, flag, score, values or write.
        share: Which shards are this worker's.
        log: Where progress goes.

    Raises:
        MiraError: An earlier stage has not run with these settings, the run folder cannot be written, or an endpoint
            cannot be used.
    """
    owner, step = find_step(stage)
    run = RunFolder(config.run)
    check_reachable(run.path)
    refresh(run.path)
    check_ready(owner, config, run)
    try:
        check_writable(run.path)
    except OSError as error:
        raise unwritable(run.path, error) from None
    done = kept = 0
    failed: dict[str, str] = {}
    with (
        as_worker(share.index, share.of),
        shared_spending(config.teacher),
        receipts(run.path, f"{stage}-{share.index}-of-{share.of}") as report,
    ):
        for item in _noted(_items(step, config, run, log, share), step, run, share):
            report()
            if item.error is not None:
                failed[f"{item.source}/{item.shard}"] = _why(item.error)
                log.note(f"  FAILED: {item.source}/{item.shard}: {_why(item.error)}")
                _note_bug(item, log)
            elif item.done:
                kept += 1
            else:
                done += 1
    return Worked(stage, share, done + kept + len(failed), done, kept, failed)


def _noted(items: Iterator[ShardItem], step: ShardStep, run: RunFolder, share: Share) -> Iterator[ShardItem]:
    """Yield items, and note what was written for them every few seconds and at the end, whatever it is."""
    new: list[Path] = []
    since = time.monotonic()
    try:
        for item in items:
            if step.output and not item.done and item.error is None:
                new.append(step.output(run, item.source, item.shard))
            if time.monotonic() - since > _NOTED_S:
                note_files(run, step.name, share, new)
                new, since = [], time.monotonic()
            yield item
    finally:
        note_files(run, step.name, share, new)


def _items(step: ShardStep, config: Config, run: RunFolder, log: Log, share: Share) -> Iterator[ShardItem]:
    if step.paid(config, run):  # of two workers at a shard, one would pay in vain
        yield from do_shards(lambda wanted: step.parts(config, run, log, wanted), run, step.name, log, share)
        return
    for part in step.parts(config, run, log, share):
        yield from part.run(part.items)


def left_over(config: Config, stage: str, of: int) -> list[int]:
    """Return the numbers of the workers whose shards are not all done, ascending.

    Args:
        config: The settings.
        stage: Name of the step.
        of: How many workers there are.

    Raises:
        MiraError: An earlier stage has not run with these settings.
    """
    owner, step = find_step(stage)
    run = RunFolder(config.run)
    refresh(run.path)
    check_ready(owner, config, run)
    parts = step.parts(config, run, Quiet(), all_shards)
    return sorted({worker_of(i.source, i.shard, of) for part in parts for i in part.items if not i.done})


def as_array(numbers: Iterable[int]) -> str:
    """Return ascending numbers as `sbatch --array` takes them: "3,7,12-15"."""

    def ranges() -> Iterator[str]:
        for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
            same = [number for _, number in group]
            yield str(same[0]) if len(same) == 1 else f"{same[0]}-{same[-1]}"

    return ",".join(ranges())


def _why(error: Exception) -> str:
    if isinstance(error, MiraError):
        return error.message
    said = str(error).strip().partition("\n")[0]
    return said if isinstance(error, OSError) else f"{type(error).__name__}: {said}"


def _note_bug(item: ShardItem, log: Log) -> None:
    """Show the traceback of an error that nobody raised on purpose."""
    for note in getattr(item.error, "__notes__", ()):
        log.note(note)
