"""Shards that cost money: a worker takes the lease of a shard before it asks anything about it.

A worker takes the leases that are free, in the order of the shards, whenever its endpoint is ready for more records.
Those that others hold it comes back to at the end: it waits until they are released, or until their holder is gone.
Then it looks again at what is done, opens the journal again, and does the rest.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mira.errors import RunError
from mira.progress import Log
from mira.run_folder.folder_store import store_of
from mira.run_folder.paths import RunFolder
from mira.run_folder.store import Store
from mira.run_folder.stored import StoredPath
from mira.run_folder.working_copy import refresh
from mira.sharing.lease import LEASES, LeaseLost, Leases, under
from mira.sharing.worker import this_worker
from mira.stage import ShardItem, ShardPart, Share, Wanted, all_shards

__all__ = ["do_shards", "leased_store"]

_PATIENCE = 30  # beats for which a store may fail before the work is given up

Key = tuple[str, str]
Value = TypeVar("Value")


def leased_store(run: Path) -> Store | None:
    """Return the store for leases of a run; None where no other process can be at work on its shards.

    Others can be where there are several workers, where the run is at a URL, and where workers were at it before.

    Raises:
        RunError: There are several workers, and the store cannot let one of two writers win.
    """
    several = this_worker().of > 1
    if not (several or isinstance(run, StoredPath) or (run / LEASES).is_dir()):
        return None
    store = store_of(run)
    if store.conditional():
        return store
    if several:
        raise RunError(
            f"{store.url}: with several workers, two could pay for the same shard: this store cannot put an object on "
            "the condition that it is not there",
            "Judge with one worker (--of 1), or use a store with conditional writes: AWS S3, Google Cloud Storage, "
            "Azure, MinIO, Ceph.",
        )
    return None


def do_shards(
    parts: Callable[[Wanted], Iterable[ShardPart]],
    run: RunFolder,
    step: str,
    log: Log,
    wanted: Wanted = all_shards,
    *,
    leases: Leases | None = None,
) -> Iterator[ShardItem]:
    """Do the parts of a step; take a lease for every shard of those that are paid for, if others may be at work.

    Args:
        parts: Wanted shards -> the parts. Called again for shards that others were at.
        run: The run folder.
        step: The step's name.
        log: Takes notes.
        wanted: The shards to do.
        leases: Other leases than those of the run's own store; open.

    Yields:
        Every shard once it is done, here or elsewhere, in any order, with its result or its error.

    Raises:
        RunError: There are several workers, and the store cannot let one of two writers win; or it does not answer.
    """
    if leases is not None:
        yield from _Leased(parts, run, leases, log, wanted).items()
        return
    store = leased_store(run.path)
    if store is None:
        yield from _run_parts(parts(wanted), lambda part: part.items)
        return
    with Leases(store, step) as own:
        yield from _Leased(parts, run, own, log, wanted).items()


def _run_parts(parts: Iterable[ShardPart], given: Callable[[ShardPart], Iterable[ShardItem]]) -> Iterator[ShardItem]:
    """Run parts, and close at once what a part holds when the work stops."""
    with _closing(parts) as each:
        for part in each:
            with _closing(part.run(given(part))) as items:
                yield from items


@dataclass(frozen=True, slots=True)
class _Left(Share):
    """A worker's shards, those left out that `left` does not want."""

    left: Callable[[str, str], bool] = lambda _source, _shard: True

    def __call__(self, source: str, shard: str) -> bool:
        """Whether a shard is to be done now."""
        return Share.__call__(self, source, shard) and self.left(source, shard)


class _Leased:
    """The shards of one step, done under leases."""

    def __init__(
        self, parts: Callable[[Wanted], Iterable[ShardPart]], run: RunFolder, leases: Leases, log: Log, wanted: Wanted
    ) -> None:
        self._parts, self._run, self._leases, self._log, self._wanted = parts, run, leases, log, wanted
        self._ended: set[Key] = set()
        self._waiting: set[Key] = set()  # others are at them
        self._ready: set[Key] = set()  # of these, the ones that can be had now
        self._others: list[Key] = []  # of this round: those that others are at
        self._gone: set[str] = set()  # holders whose shards were taken over
        self._unsealed = (
            " Replies of its last minute that are not sealed are requested again, unless a mira runs on its machine."
            if isinstance(run.path, StoredPath)
            else ""
        )

    def items(self) -> Iterator[ShardItem]:
        wanted = _Left(self._wanted.index, self._wanted.of, self._is_left)
        with under(self._leases):
            while True:
                self._patiently(self._leases.survey)
                self._others = []
                try:
                    for item in _run_parts(self._parts(wanted), self._given):
                        if isinstance(item.error, LeaseLost):
                            raise item.error
                        self._end((item.source, item.shard))
                        yield item
                except LeaseLost as error:
                    if error.leases is not self._leases:
                        raise
                    self._log.note(f"  {error.message}. Its replies so far are in the journal; the shard waits.")
                else:
                    self._waiting = (self._waiting - self._ready) | set(self._others)
                    if not self._waiting:
                        return
                    self._wait()
                refresh(self._run.path)

    def _is_left(self, source: str, shard: str) -> bool:
        key = (source, shard)
        return key not in self._ended and (key not in self._waiting or key in self._ready)

    def _given(self, part: ShardPart) -> Iterable[ShardItem]:
        return self._take(part.items) if part.paid else part.items

    def _take(self, items: Sequence[ShardItem]) -> Iterator[ShardItem]:
        """Yield the items that are done, and those whose lease is to be had; note the others."""
        for item in items:
            key = (item.source, item.shard)
            if item.done or self._may_have(key):
                yield item
            else:
                self._others.append(key)

    def _may_have(self, key: Key) -> bool:
        try:
            had = self._leases.take(*key)
        except OSError:  # the store fails for now: as if others were at it
            return False
        for _, _, holder in self._leases.taken_over:
            if holder not in self._gone:
                self._gone.add(holder)
                self._log.note(f"  {holder} is gone: its shards are taken over.{self._unsealed}")
        self._leases.taken_over.clear()
        return had

    def _end(self, key: Key) -> None:
        self._ended.add(key)
        self._waiting.discard(key)
        self._leases.release(*key)

    def _wait(self) -> None:
        waiting = sorted(self._waiting)
        said = False
        while not (ready := self._patiently(lambda: self._leases.ready(waiting))):
            if not said:
                holder = self._patiently(lambda: self._leases.holder(*waiting[0])) or "another process"
                first = "/".join(waiting[0])
                self._log.note(f"  waiting for {len(waiting):,} shards of other workers; {holder} has {first}")
                said = True
            self._leases.pause()
        self._ready = set(ready)

    def _patiently(self, ask: Callable[[], Value]) -> Value:
        """Ask the store until it answers, for a while."""
        for tries in range(2 * _PATIENCE):
            try:
                return ask()
            except OSError as error:
                if tries == 2 * _PATIENCE - 1:
                    raise RunError(
                        f"{error.filename or self._run.path}: the store does not answer: {error.strerror or error}",
                        "Run the same command again when it does: what was paid for is in the journal.",
                    ) from None
                self._leases.pause()
        raise AssertionError


@contextmanager
def _closing(iterable: Iterable[Value]) -> Iterator[Iterable[Value]]:
    try:
        yield iterable
    finally:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
