"""What workers do of a selection: step `values` (values and a rank file per shard), and step `write`."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from mira.corpus import Shard, shards
from mira.errors import MiraError
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import several
from mira.selection.map_shards import engine_for, group_size
from mira.selection.methods.method import find_method, load_method, ready_method
from mira.selection.methods.rating import rating_part
from mira.selection.planning import Plan, rows_of
from mira.selection.ranks.agree import agreed_plan, plan_of
from mira.selection.ranks.marks import kept_path, read_mark, write_mark
from mira.selection.ranks.plan_file import WritePlan, write_plan
from mira.selection.ranks.rank_file import RankTask, check_ranks, make_ranks
from mira.selection.ranks.shared import rank_task, refuse_alone
from mira.selection.values import SelectionInputs, SelectionMethod
from mira.selection.write import Counts, WriteTask, write_shard
from mira.selection.yardstick.figures import compared
from mira.stage import ShardItem, ShardPart, Wanted, do_items

__all__ = ["value_parts", "write_parts", "write_shared"]

_MARKED, _SECONDS = 32, 1.0  # shards that are marked together, and after how long at most


def value_parts(inputs: SelectionInputs, wanted: Wanted) -> Iterator[ShardPart]:
    """Yield the part that makes values and rank files.

    Raises:
        ConfigError: Workers cannot do this selection.
        RunError: An earlier stage's output is missing.
    """
    refuse_alone(inputs)
    asked = find_method(inputs.select.method).asked(inputs.select)
    if asked is not None:
        with asked.job(inputs) as rating:
            yield _asked_part(inputs, asked.method, rating_part(inputs, rating, wanted))
        return
    method = load_method(inputs.select.method, inputs)
    methods = [method, *compared(inputs, method).values()]
    found = shards(inputs.corpus, wanted=wanted)
    items = []
    for source, parts in found.items():
        for shard in parts:
            job = [rank_task(inputs, one, shard) for one in methods]
            items.append(ShardItem(source, shard.name, all(check_ranks(task) for task in job), job))
    yield ShardPart(items, partial(_make_items, inputs, rows_of(inputs.run, found) if method.reads_text else 0))


def _asked_part(inputs: SelectionInputs, method: SelectionMethod, rating: ShardPart) -> ShardPart:
    """Return the part that has an endpoint asked about the records of a shard, and then ranks them."""
    tasks = {(item.source, item.shard): rank_task(inputs, method, item.job[0]) for item in rating.items}
    asked = {(item.source, item.shard): item for item in rating.items}
    items = [item._replace(done=item.done and check_ranks(tasks[key]) is not None) for key, item in asked.items()]

    def run(given: Iterable[ShardItem]) -> Iterator[ShardItem]:
        done: set[tuple[str, str]] = set()

        def to_ask() -> Iterator[ShardItem]:
            for item in given:
                if item.done:
                    done.add((item.source, item.shard))
                yield asked[item.source, item.shard]

        for item in rating.run(to_ask()):
            key = (item.source, item.shard)
            error = item.error
            if error is None and key not in done:
                try:
                    make_ranks(tasks[key])
                except (MiraError, OSError) as problem:
                    error = problem
            yield item._replace(done=key in done, error=error)

    return ShardPart(items, run, rating.paid)


def _make_items(inputs: SelectionInputs, rows: int, items: Iterable[ShardItem]) -> Iterator[ShardItem]:
    yield from _do(inputs, _make_all, list(items), rows)


def _make_all(tasks: Sequence[RankTask]) -> None:
    for task in tasks:
        make_ranks(task)


def _do(
    inputs: SelectionInputs, function: Callable[[Any], Any], items: Sequence[ShardItem], rows: int
) -> Iterator[ShardItem]:
    """Run a function over items; small shards share their writes."""
    engine = engine_for(inputs.score, len(items), rows)
    yield from do_items(engine, function, items, size_of=lambda _job: 1, most=group_size(engine, len(items), rows))


class _Job(NamedTuple):
    """A shard to write."""

    shard: Shard
    ranks: RankTask


def write_parts(inputs: SelectionInputs, wanted: Wanted) -> Iterator[ShardPart]:
    """Yield the part that writes what is selected.

    The cutoffs are those of `plan.json`. Where it is missing, or of another selection, whoever comes first makes it.

    Raises:
        ConfigError: Workers cannot do this selection.
        RunError: An earlier stage's output is missing; or, when a shard is to be written, rank files are.
    """
    refuse_alone(inputs)
    method = ready_method(inputs.select.method, inputs)
    jobs = [
        _Job(shard, rank_task(inputs, method, shard))
        for parts in shards(inputs.corpus, wanted=wanted).values()
        for shard in parts
    ]
    plan = plan_of(inputs, method, [job.ranks for job in jobs])
    done = {job.shard for job in jobs if plan and read_mark(inputs.run, plan.identity, job.shard)}
    items = [ShardItem(job.shard.source, job.shard.name, job.shard in done, job) for job in jobs]
    yield ShardPart(items, partial(_write_items, inputs, method, plan))


def _write_items(
    inputs: SelectionInputs, method: SelectionMethod, plan: WritePlan | None, items: Iterable[ShardItem]
) -> Iterator[ShardItem]:
    waiting: list[ShardItem] = []
    for item in items:
        if item.done:
            yield item
        else:
            waiting.append(item)
    if not waiting:
        return
    if plan is None:
        plan = agreed_plan(inputs, method, [item.job.ranks for item in waiting])
    yield from _written(inputs, plan, waiting)


def _written(inputs: SelectionInputs, plan: WritePlan, items: Sequence[ShardItem]) -> Iterator[ShardItem]:
    """Write shards, and yield each once it is marked."""
    select, longest, run = inputs.select, inputs.corpus.max_record_bytes, inputs.run
    todo = []
    for item in items:
        shard, ranks = item.job
        rule = plan.rules[shard.source]
        todo.append(item._replace(job=WriteTask(select, longest, run, plan.folder, shard, rule, ranks.value)))
    held: list[ShardItem] = []
    since = time.monotonic()
    for item in _do(inputs, write_shard, todo, _rows(run, todo) if select.write_selected else 0):
        held.append(item)
        if len(held) >= _MARKED or time.monotonic() - since > _SECONDS:
            yield from _marked(run, plan, held)
            held, since = [], time.monotonic()
    yield from _marked(run, plan, held)


def _rows(run: RunFolder, items: Sequence[ShardItem]) -> int:
    parts: dict[str, list[Shard]] = {}
    for item in items:
        parts.setdefault(item.source, []).append(item.job.shard)
    return rows_of(run, parts)


def _marked(run: RunFolder, plan: WritePlan, items: Sequence[ShardItem]) -> Sequence[ShardItem]:
    def mark(item: ShardItem) -> None:
        if item.error is None:
            write_mark(run, plan.identity, item.job.shard, item.result)

    several(mark, items, run.plan)
    return items


def write_shared(inputs: SelectionInputs, plan: Plan) -> list[Counts]:
    """Write every shard that workers have not written under this plan, and return the counts of all.

    Files of shards that are gone, and of another selection, are removed.
    """
    run, to_write = inputs.run, write_plan(inputs, plan)
    every = [shard for parts in plan.shards.values() for shard in parts]
    _remove_others(inputs, every)
    known = dict(zip(every, several(partial(read_mark, run, to_write.identity), every, run.plan), strict=True))
    items = [
        ShardItem(shard.source, shard.name, False, _Job(shard, rank_task(inputs, plan.method, shard)))
        for shard, counts in known.items()
        if counts is None
    ]
    counts = [found for found in known.values() if found is not None]
    with inputs.log.task("select: write", len(every)) as task:
        task.advance(len(counts))
        for item in _written(inputs, to_write, items):
            if item.error is not None:
                raise item.error
            counts.append(item.result)
            task.advance()
    return counts


def _remove_others(inputs: SelectionInputs, every: Sequence[Shard]) -> None:
    run = inputs.run
    wanted = {run.selection(shard.source) / f"{shard.name}.parquet" for shard in every}
    if inputs.select.write_selected:
        wanted |= {kept_path(run, shard) for shard in every}
    for folder in (run.path / "selection", run.path / "selected"):
        for path in folder.glob("[!.]*/*"):
            if path not in wanted and path.is_file():
                path.unlink(missing_ok=True)
