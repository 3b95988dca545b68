"""The journal of a run at a URL: sealed segments, and nothing that was paid for is lost on this machine."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mira.llm.journal.segments as module
from llm.journal.test_journal import entry, key
from mira.errors import RunError
from mira.llm.journal.journal import Journal
from mira.llm.journal.reader import JournalReader
from mira.llm.journal.segments import scratch_of
from mira.run_folder.lock import lock_file, unlock_file
from mira.run_folder.stored import run_path
from mira.sharing.worker import as_worker


@pytest.fixture(params=["folder", "url"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        return tmp_path / "run" / "journal"
    return run_path(f"memory://{tmp_path.name}") / "journal"


def opened(folder: Path, name: str = "student") -> Journal:
    return Journal(folder, name, segmented=True)


def found(folder: Path, numbers: range) -> int:
    reader = JournalReader(folder, segmented=True)
    return len(reader.find([key(i) for i in numbers]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.jsonl.zst"))


def scratch(folder: Path) -> list[str]:
    return sorted(path.name for path in scratch_of(folder).rglob("*"))


def wait_until(true: Any) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it never happened")


def test_all_is_sealed_at_the_end_and_nothing_stays_here(folder: Path) -> None:
    with opened(folder) as journal:
        journal.append([entry(i) for i in range(300)])
        assert names(folder) == []
        assert journal.find([key(7)])[key(7)] == entry(7).reply
        journal.fail([{"for": "s/1", "reason": "endpoint_error"}])
    (name,) = names(folder)
    assert name.startswith("student-")
    assert name.endswith("-0001.jsonl.zst")
    assert (folder / "student.failures.jsonl").read_bytes() == b'{"for":"s/1","reason":"endpoint_error"}\n'
    assert scratch(folder) == []
    with opened(folder) as journal:
        assert len(journal) == 300
        assert not (folder / "student.failures.jsonl").exists()
    assert names(folder) == [name], "a journal to which nothing was added leaves no segment"


def test_it_is_sealed_after_a_while_and_once_it_is_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEAL_BYTES", 20_000)
    with opened(folder) as journal:
        journal.append([entry(i) for i in range(10)])
        large = [entry(i, os.urandom(300).hex()) for i in range(10, 200)]
        journal.append(large)
        wait_until(lambda: len(names(folder)) == 1)
        assert journal.find([key(11)]) == {key(11): large[1].reply}, "its segment has moved"
    monkeypatch.setattr(module, "SEAL_S", 0.05)
    with opened(folder) as journal:
        for i in (200, 201):
            journal.append([entry(i)])
            wait_until(lambda i=i: len(names(folder)) == i - 198)
    assert found(folder, range(202)) == 202


def test_every_stop_seals_an_error_too(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(folder) as journal:
        journal.append([entry(1)])
        assert journal.seal() == f"All of them are sealed in {folder}."
        journal.append([entry(2)])
        raise KeyboardInterrupt
    assert len(names(folder)) == 2
    assert found(folder, range(3)) == 2


_KILLED = """\
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from llm.journal.test_segments import entry, opened
journal = opened(Path({folder!r}))
journal.append([entry(i) for i in range(100)])
journal.seal()
journal.append([entry(i) for i in range(100, 200)])
journal.fail([{{"for": "s/1"}}])
print("written", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("torn", [0, 5, 4000])
def test_what_a_killed_process_left_is_sealed_by_the_next(tmp_path: Path, torn: int) -> None:
    folder = tmp_path / "run" / "journal"
    script = _KILLED.format(tests=str(Path(__file__).parents[2]), folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert len(names(folder)) == 1
        assert found(folder, range(200)) == 200, "what another process of this machine has not sealed is read"
        with opened(folder) as other:
            assert other.recovered == 0, "it is at work"
        process.send_signal(signal.SIGKILL)
    (left,) = scratch_of(folder).rglob("*-0002.jsonl.zst")
    os.truncate(left, left.stat().st_size - torn)
    assert found(folder, range(200)) == (100 if torn else 200)
    with opened(folder) as journal:
        assert journal.recovered == (not torn)
        assert len(journal.find([key(i) for i in range(200)])) == (100 if torn else 200)
        assert journal.damaged == 0
        journal.append([entry(i) for i in range(100, 200)])
    assert found(folder, range(200)) == 200
    assert scratch(folder) == []


def test_two_that_find_a_killed_process_do_not_disturb_each_other(folder: Path) -> None:
    left = scratch_of(folder) / "dead"
    left.mkdir(parents=True)
    (left / "student-dead-0001.jsonl.zst").write_bytes(b"nothing whole")
    lock = lock_file(left / "lock")
    with opened(folder) as journal:
        assert journal.recovered == 0
    assert left.is_dir()
    unlock_file(lock)
    with opened(folder) as journal:
        assert (journal.recovered, len(journal)) == (0, 0)
    assert names(folder) == []
    assert scratch(folder) == []


def test_a_reader_finds_what_is_sealed_while_it_reads(folder: Path) -> None:
    with opened(folder) as journal:
        journal.append([entry(i) for i in range(10)])
        reader = JournalReader(folder, segmented=True)
        journal.seal()
        assert len(reader.find([key(i) for i in range(10)])) == 10


def test_a_store_that_takes_nothing_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_path: Path) -> Any:
        raise OSError(5, "SlowDown")

    monkeypatch.setattr(module, "_LAST_TRIES", 1)
    with monkeypatch.context() as patched:
        with pytest.raises(RunError, match=r"cannot put replies there: .*SlowDown.* safe in .*\.journal"):  # noqa: SIM117
            with opened(folder) as journal:
                patched.setattr(module, "atomic", failing)
                journal.append([entry(i) for i in range(10)])
                said = journal.seal()
                assert "SlowDown" in said
                assert "Run the same command again on this machine" in said
                journal.append([entry(10)])
                assert len(journal.find([key(i) for i in range(11)])) == 11
        with pytest.raises(RunError, match="SlowDown"):
            opened(folder)
    assert names(folder) == []
    with opened(folder) as journal:
        assert journal.recovered == 2
        assert len(journal.find([key(i) for i in range(11)])) == 11
    assert found(folder, range(11)) == 11


def test_hundreds_of_segments_are_one_journal(folder: Path) -> None:
    with opened(folder) as journal:
        for i in range(80):
            journal.append([entry(i), entry(1000 + i)])
            journal.seal()
        assert len(journal.find([key(i) for i in range(2000)])) == 160
    assert len(names(folder)) == 80
    assert found(folder, range(2000)) == 160


def test_workers_write_files_of_their_own_in_a_shared_folder(tmp_path: Path) -> None:
    with as_worker(3, 8), Journal(tmp_path, "student") as first, Journal(tmp_path, "student") as second:
        first.append([entry(1)])
        second.append([entry(2)])
    assert first.path.name.startswith("student-3-")
    assert second.path.name == f"{first.path.name.removesuffix('.jsonl.zst')}-2.jsonl.zst"
    with Journal(tmp_path, "student") as journal:
        assert len(journal) == 2
        assert journal.path.name == "student.jsonl.zst"
