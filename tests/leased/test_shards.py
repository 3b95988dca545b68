"""Paid shards: each is done by one worker, whoever starts, waits, dies or is held up."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mira.errors import RunError
from mira.leased.shards import do_shards, leased_store
from mira.progress import Quiet
from mira.run_folder.folder_store import FolderStore, store_of
from mira.run_folder.paths import RunFolder
from mira.run_folder.store import UrlStore
from mira.run_folder.stored import run_path
from mira.sharing.lease import Leases, check_leases
from mira.sharing.worker import as_worker
from mira.stage import ShardItem, ShardPart, Wanted

SHARDS = [("web", f"part-{i}") for i in range(6)]
BEAT = 10.0


class Notes(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Corpus:
    """Shards that are done when a file says so; counts who does which, and which are at work."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder / "run")
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.times: Counter[str] = Counter()
        self.opened = self.closed = 0
        self.work: Callable[[str], None] = lambda _shard: None

    def parts(self, wanted: Wanted) -> Iterator[ShardPart]:
        items = [
            ShardItem(source, shard, (self.run.path / shard).exists())
            for source, shard in SHARDS
            if wanted(source, shard)
        ]
        self.opened += 1
        try:
            yield ShardPart(items, self._do, paid=True)
        finally:
            self.closed += 1

    def _do(self, given: Iterable[ShardItem]) -> Iterator[ShardItem]:
        for item in given:
            if not item.done:
                self.times[item.shard] += 1
                self.work(item.shard)
                check_leases()
                (self.run.path / item.shard).write_text("done")
            yield item

    def do(self, log: Quiet, leases: Leases) -> list[str]:
        return sorted(item.shard for item in do_shards(self.parts, self.run, "score", log, leases=leases))


def names() -> list[str]:
    return sorted(shard for _, shard in SHARDS)


class Slow(Leases):
    """Leases whose clock stands still, but for what each pause adds to it: no test depends on how busy a machine is."""

    def __init__(self, corpus: Corpus, step: float = 0.0) -> None:
        self.now, self.step = 100.0, step
        super().__init__(FolderStore(corpus.run.path), "score", beat_s=BEAT, clock=lambda: self.now)

    def pause(self) -> None:
        time.sleep(0.01)
        self.now += self.step


def test_two_workers_on_all_shards_do_each_once(tmp_path: Path) -> None:
    corpus, together = Corpus(tmp_path), threading.Barrier(2)
    found: list[list[str]] = []

    def worker() -> None:
        with Slow(corpus) as own:
            together.wait()
            found.append(corpus.do(Quiet(), own))

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [names(), names()], "each tells of every shard, done here or there"
    assert corpus.times == dict.fromkeys(names(), 1)


def test_the_shard_of_a_dead_worker_is_waited_for_and_taken_over(tmp_path: Path) -> None:
    corpus, log = Corpus(tmp_path), Notes()
    dead = Slow(corpus)  # its thread never starts: it never beats
    dead.survey()
    assert dead.take("web", "part-2")
    with Slow(corpus, step=BEAT) as own:
        assert corpus.do(log, own) == names()
    assert list(corpus.times)[-1] == "part-2", "the others come first"
    assert corpus.times.total() == len(SHARDS)
    waiting, gone = log.said
    assert waiting.startswith("  waiting for 1 shards of other workers; process ")
    assert waiting.endswith(" has web/part-2")
    assert gone.endswith(" is gone: its shards are taken over.")
    assert corpus.opened == corpus.closed == 2


def test_a_worker_that_was_held_up_leaves_the_shard_and_comes_back(tmp_path: Path) -> None:
    corpus, log = Corpus(tmp_path), Notes()

    def held_up(shard: str) -> None:
        if shard == "part-1" and corpus.times[shard] == 1:
            own.now += 3 * BEAT

    corpus.work = held_up
    with Slow(corpus) as own:
        found = corpus.do(log, own)
    assert found == names()
    assert corpus.times == {**dict.fromkeys(names(), 1), "part-1": 2}
    assert "the lease of web/part-1 was lost" in log.said[0]
    assert corpus.opened == corpus.closed == 2


def test_a_failing_shard_is_told_and_its_lease_released(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)

    def parts(wanted: Wanted) -> Iterator[ShardPart]:
        for part in corpus.parts(wanted):
            yield ShardPart(
                part.items, lambda given: (item._replace(error=ValueError("bad")) for item in given), paid=True
            )

    with Slow(corpus) as own:
        items = list(do_shards(parts, corpus.run, "score", Quiet(), leases=own))
        assert [str(item.error) for item in items] == ["bad"] * len(SHARDS)
    with Slow(corpus) as other:
        other.survey()
        assert all(other.take(*shard) for shard in SHARDS)


def test_who_needs_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    local = tmp_path / "run"
    local.mkdir()
    assert leased_store(local) is None
    with as_worker(0, 2):
        found = leased_store(local)
    assert found is not None
    assert (local / "leases").is_dir()
    assert leased_store(local) is not None, "workers have been here, and may be still"
    at_url = run_path(f"memory://{tmp_path.name}")
    store = store_of(at_url)
    assert isinstance(store, UrlStore)
    store._wins = True  # what the test of conditional writes found
    assert leased_store(at_url) is store, "other machines may be at it"
    store._wins = False
    assert leased_store(at_url) is None
    with (
        as_worker(0, 2),
        pytest.raises(RunError, match=r"memory://.*: with several workers, two could.*\n.*--of 1"),
    ):
        leased_store(at_url)
