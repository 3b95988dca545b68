"""What a stage is. Every stage's folder holds its `Stage`; `mira.pipeline.registry` lists them in order."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mira.config.settings import Config, EndpointSettings
from mira.engine import Attempt, Engine
from mira.engine.groups import Grouped, grouped
from mira.progress import Log
from mira.run_folder.paths import RunFolder

__all__ = [
    "FREE_REPLY_TOKENS",
    "REPLY_TOKENS",
    "SYSTEM_TOKENS",
    "TEMPLATE_TOKENS",
    "ShardItem",
    "ShardPart",
    "ShardStep",
    "Share",
    "Stage",
    "Wanted",
    "Work",
    "all_shards",
    "do_items",
    "do_parts",
    "needs",
    "reads",
    "worker_of",
]

# Tokens of prompts and replies, for estimates before there is anything to measure: 15 slots, 12 of them with three
# references, rationales of one sentence.
SYSTEM_TOKENS = 2_800
TEMPLATE_TOKENS = 350
REPLY_TOKENS = 600
FREE_REPLY_TOKENS = 900


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage would do, for the plan.

    Attributes:
        records: Source -> records that it goes through.
        calls: Source -> LLM calls at most.
        endpoints: Source -> the endpoint that is asked; None where a student answers on this machine.
        prompt_tokens: Tokens of a prompt besides the record.
        record_tokens: Tokens of a record in one prompt at most; 0 where only the endpoint's context limits them.
        reply_tokens: Tokens of a reply.
        from_journal: Whether the journal's replies can be counted before the stage runs.
        notes: What else it will take, such as memory and time of training; one line each.
    """

    records: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    endpoints: Mapping[str, EndpointSettings | None] = field(default_factory=dict)
    prompt_tokens: int = 0
    reply_tokens: int = 0
    record_tokens: int = 0
    from_journal: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """The shards that fall to one of several workers: a fixed part of them, whatever other shards there are.

    Attributes:
        index: The worker's number, from 0.
        of: How many workers there are.
    """

    index: int = 0
    of: int = 1

    def __call__(self, source: str, shard: str) -> bool:
        """Whether a shard of a source falls to this worker."""
        return self.of == 1 or worker_of(source, shard, self.of) == self.index


Wanted = Share
"""Source, shard -> whether the shard is to be done here."""

all_shards = Share()
"""Want every shard: what a stage does that runs alone."""


def worker_of(source: str, shard: str, of: int) -> int:
    """Return the number of the worker that a shard falls to, from 0, of so many."""
    digest = hashlib.blake2b(f"{source}/{shard}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest) % of


class ShardItem(NamedTuple):
    """What a step has to do for one shard, or has done.

    Attributes:
        source: Name of the source.
        shard: Name of the shard.
        done: Whether its output is there and up to date.
        job: What the step needs to do it.
        result: What came of it, for the stage's own use.
        error: Why it could not be done.
    """

    source: str
    shard: str
    done: bool
    job: Any = None
    result: Any = None
    error: Exception | None = None


class ShardPart(NamedTuple):
    """Shards of a step that are done together, such as those of one student.

    Attributes:
        items: The shards that are wanted, those that are done among them. The order is always the same.
        run: Does the items that it is given and yields each as it ends, with its result or with its error. Items that
            are done are yielded at once. It may take the next item only when it is ready for it.
        paid: Whether its requests may cost money, so that no two workers should do one shard.
    """

    items: Sequence[ShardItem]
    run: Callable[[Iterable[ShardItem]], Iterator[ShardItem]]
    paid: bool = False


def do_items(
    engine: Engine,
    function: Callable[[Any], Any],
    items: Iterable[ShardItem],
    *,
    size_of: Callable[[Any], int] | None = None,
    most: int = 0,
) -> Iterator[ShardItem]:
    """Run a function over the jobs of items on an engine: most parts' `run`.

    Args:
        engine: Where it runs.
        function: Job -> result; picklable, and so are the jobs.
        items: The items. Those that are done are yielded at once, as they are.
        size_of: Job -> its size. Small jobs are done in groups: what they write is put in place together.
        most: Size of a group at most.

    Yields:
        Every item as it ends, with its result or its error.
    """
    waiting: dict[tuple[str, str], ShardItem] = {}
    for item in items:
        if item.done:
            yield item
        else:
            waiting[item.source, item.shard] = item
    calls = [((source, shard), item.job) for (source, shard), item in waiting.items()]
    groups = grouped(calls, lambda call: size_of(call[1]), most) if size_of else [[call] for call in calls]
    attempt: Attempt[tuple[str, str], Any, Any] = Attempt(function)
    for ended in engine.map(Grouped(attempt), groups):
        for key, result, error in ended:
            yield waiting[key]._replace(result=result, error=error)


@dataclass(frozen=True, slots=True)
class ShardStep:
    """What a stage does shard by shard: any number of workers may do it, each with shards of its own.

    A step writes the outputs of the shards that it is given, whole or not at all, and removes nothing. What it writes
    for a shard depends on neither the worker nor the other shards, so that two workers on one shard do no harm.

    Attributes:
        name: What `mira work --stage` calls it.
        parts: Settings, run folder, log, wanted shards -> its parts, one after the other. What a part needs (an open
            student) is held until the next one is asked for. Nothing is done before `ShardPart.run`. Only files of
            wanted shards are read.
        paid: Whether its requests cost money, so that no two workers should do one shard.
        output: Run folder, source, shard -> the file that a worker leaves, where the stage goes on from such files
            when it runs again. Workers' notes of it tell it from a damaged file.
    """

    name: str
    parts: Callable[[Config, RunFolder, Log, Wanted], Iterator[ShardPart]]
    paid: Callable[[Config, RunFolder], bool] = lambda _config, _run: False
    output: Callable[[RunFolder, str, str], Path] | None = None


def do_parts(parts: Iterable[ShardPart]) -> Iterator[ShardItem]:
    """Do the parts of a step: what a stage runs before it gathers.

    Yields:
        Every shard once it is done, in any order.

    Raises:
        Exception: Of the first shard that fails.
    """
    for part in parts:
        for item in part.run(part.items):
            if item.error is not None:
                raise item.error
            yield item


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: a function from files to files.

    Most stages have two halves: steps, which work shard by shard, and a gathering at the end. `run` does both.

    Attributes:
        name: Its verb.
        version: Raised whenever its code would give another output for the same input.
        run: What runs; returns a JSON-able summary.
        needs: Stages whose output it reads.
        reads: Settings that it depends on, by dotted name: sections ("select") and single fields ("teacher.endpoint").
            The files that these settings name are read, too.
        settings: Returns the settings that count, where they are not simply those that it reads.
        unread: Of these settings, those that have no effect under this configuration.
        outputs: Files and folders that it writes.
        files: Further inputs that no setting names, or that take more than a hash of a file: name -> hash.
        resumed: Files and folders in which an interrupted run goes on: what is there counts as done.
        edited: Takes the files of its output that were changed since, before it overwrites them; raises where that
            would lose what somebody wrote by hand.
        work: What it would do to a corpus of so many valid records per source.
        steps: What workers may do of it, in order. `run` does the same steps, and then gathers what they wrote.
    """

    name: str
    version: int
    run: Callable[[Config, RunFolder, Log], dict[str, Any]]
    needs: Callable[[Config], Sequence[str]]
    reads: Callable[[Config], Sequence[str]]
    outputs: Callable[[RunFolder], Sequence[Path]]
    settings: Callable[[Config], dict[str, Any]] | None = None
    unread: Callable[[Config], Sequence[str]] = lambda _config: ()
    files: Callable[[Config, RunFolder], Mapping[str, str]] = lambda _config, _run: {}
    resumed: Callable[[Config, RunFolder], Sequence[Path]] = lambda _config, _run: ()
    edited: Callable[[Config, RunFolder, Sequence[Path]], None] | None = None
    work: Callable[[Config, RunFolder, Mapping[str, int]], Work] = lambda _config, _run, _valid: Work()
    steps: tuple[ShardStep, ...] = ()


def needs(*names: str) -> Callable[[Config], Sequence[str]]:
    """Return what a stage needs under every configuration."""
    return lambda _config: names


def reads(*names: str) -> Callable[[Config], Sequence[str]]:
    """Return what a stage reads under every configuration."""
    return lambda _config: names
