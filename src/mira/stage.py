"""What a stage is. Every stage's folder holds its `Stage`; `mira.pipeline.registry` lists them in order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mira.config.settings import Config, EndpointSettings
from mira.progress import Log
from mira.run_folder.paths import RunFolder

__all__ = ["FREE_REPLY_TOKENS", "REPLY_TOKENS", "SYSTEM_TOKENS", "TEMPLATE_TOKENS", "Stage", "Work", "needs", "reads"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: a function from files to files.

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


def needs(*names: str) -> Callable[[Config], Sequence[str]]:
    """Return what a stage needs under every configuration."""
    return lambda _config: names


def reads(*names: str) -> Callable[[Config], Sequence[str]]:
    """Return what a stage reads under every configuration."""
    return lambda _config: names
