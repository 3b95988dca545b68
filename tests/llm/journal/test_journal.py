"""The journal keeps every reply that it took, through kill, torn tails, bit rot, full disks and second writers."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mira.errors import RunError
from mira.llm.journal.index import Index
from mira.llm.journal.journal import Entry, Journal
from mira.llm.responses.reply import Reply, Token


def key(i: int) -> bytes:
    return hashlib.blake2b(str(i).encode(), digest_size=16).digest()


def entry(i: int, text: str = "") -> Entry:
    return Entry(key(i), f"s/{i}", Reply(text or f"reply {i}\nzwei — 三", "stop", 100 + i, 10))


def write(folder: Path, numbers: range, name: str = "replies") -> None:
    with Journal(folder, name) as journal:
        journal.append([entry(i) for i in numbers])


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    write(tmp_path, range(600))
    with Journal(tmp_path) as journal:
        assert len(journal) == 600
        found = journal.find([key(i) for i in range(0, 700, 7)])
        assert found == {key(i): entry(i).reply for i in range(0, 600, 7)}
        journal.append([entry(i) for i in range(600, 610)])
        assert journal.find([key(605)]) == {key(605): entry(605).reply}


def test_every_field_of_a_reply_survives(tmp_path: Path) -> None:
    tokens = (Token("7", -0.1, (("7", -0.1), ("8", -2.5))), Token("/10", -0.01))
    reply = Reply("7/10", "length", 5, 6, tokens, "no", "thought", "some/model")
    with Journal(tmp_path) as journal:
        journal.append([Entry(key(1), "s/1", reply)])
        assert journal.find([key(1)])[key(1)] == reply


@pytest.mark.parametrize("odd", [Reply("text", tokens_in=2**70), Reply("half \ud83d")])
def test_an_entry_that_cannot_be_written_takes_no_neighbours_with_it(tmp_path: Path, odd: Reply) -> None:
    entries = [entry(1), Entry(key(2), "s/2", odd), entry(3)]
    with Journal(tmp_path) as journal:
        with pytest.raises(RunError, match=r"replies\.jsonl\.zst: the reply about s/2 cannot be written"):
            journal.append(entries)
        assert journal.find([key(i) for i in range(4)]) == {key(i): entry(i).reply for i in (1, 3)}
        with pytest.raises(RunError, match="s/2"):
            journal.append(entries[1:2])
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.damaged, journal.cut) == (2, 0, 0)


def test_zstd_prints_the_lines(tmp_path: Path) -> None:
    zstd = shutil.which("zstd")
    if zstd is None:
        pytest.skip("no zstd command here")
    write(tmp_path, range(300))
    out = subprocess.run([zstd, "-dc", tmp_path / "replies.jsonl.zst"], capture_output=True, check=True).stdout
    assert out.count(b"\n") == 300
    assert b'"for":"s/299"' in out


@pytest.mark.parametrize("lost", [1, 3, 30, 200])
def test_a_torn_tail_is_cut_and_the_rest_is_kept(tmp_path: Path, lost: int) -> None:
    write(tmp_path, range(500))
    whole = (tmp_path / "replies.jsonl.zst").stat().st_size
    write(tmp_path, range(500, 600))
    path = tmp_path / "replies.jsonl.zst"
    os.truncate(path, path.stat().st_size - lost)
    with Journal(tmp_path) as journal:
        assert len(journal) == 500
        assert journal.cut > 0
        assert path.stat().st_size == whole
        journal.append([entry(550)])
        assert journal.find([key(550), key(499)]).keys() == {key(550), key(499)}
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.cut, journal.damaged) == (501, 0, 0)


def test_a_tail_of_zeros_is_cut(tmp_path: Path) -> None:
    write(tmp_path, range(10))
    with (tmp_path / "replies.jsonl.zst").open("ab") as file:
        file.write(bytes(5000))
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.cut) == (10, 5000)


@pytest.mark.parametrize("place", [0.02, 0.2, 0.5])
def test_bit_rot_loses_one_frame_which_can_be_written_again(tmp_path: Path, place: float) -> None:
    write(tmp_path, range(1024))
    path = tmp_path / "replies.jsonl.zst"
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0xFF
    path.write_bytes(data)
    keys = [key(i) for i in range(1024)]
    with Journal(tmp_path) as journal:
        found = journal.find(keys)
        assert len(found) == 768
        assert journal.damaged == 1
        lost = [i for i in range(1024) if key(i) not in found]
        journal.append([entry(i) for i in lost])
    with Journal(tmp_path) as journal:
        assert len(journal.find(keys)) == 1024


def test_all_files_of_the_folder_are_read_and_one_is_written(tmp_path: Path) -> None:
    write(tmp_path, range(100), "b")
    write(tmp_path, range(100, 200), "a")
    before = (tmp_path / "b.jsonl.zst").read_bytes()
    with Journal(tmp_path, "a") as journal:
        assert len(journal.find([key(i) for i in range(300)])) == 200
        journal.append([entry(200)])
        assert len(journal.find([key(i) for i in range(300)])) == 201
    assert (tmp_path / "b.jsonl.zst").read_bytes() == before


def test_a_second_writer_is_told_who_holds_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()} on"):
        Journal(tmp_path)
    with Journal(tmp_path), Journal(tmp_path, "other"):
        pass
    Journal(tmp_path).close()


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from mira.llm.journal.journal import Journal; import time\n" \
             f"j = Journal(Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=f"process {process.pid} on"):
            Journal(tmp_path)
        process.send_signal(signal.SIGKILL)
    Journal(tmp_path).close()


def test_failures_are_kept_apart_and_only_for_the_last_run(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.fail([{"for": "s/1", "reason": "endpoint_error"}])
        assert len(journal) == 0
    assert (tmp_path / "replies.failures.jsonl").read_bytes() == b'{"for":"s/1","reason":"endpoint_error"}\n'
    Journal(tmp_path).close()
    assert (tmp_path / "replies.failures.jsonl").read_bytes() == b""


def _tmpfs(folder: Path, size: str) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")


def test_a_full_disk_keeps_room_for_replies_in_flight(tmp_path: Path) -> None:
    _tmpfs(tmp_path, "6m")
    try:
        with Journal(tmp_path) as journal:
            number = 0
            while not journal.full:
                journal.append([entry(number, os.urandom(500).hex()) for number in range(number, number + 256)])
                number += 256
            in_flight = [entry(-i, os.urandom(500).hex()) for i in range(1, 2000)]
            journal.append(in_flight)
            with pytest.raises(RunError, match=r"cannot write the journal: No space left.*\n.*continues where"):
                for start in range(number, 10**6, 256):
                    journal.append([entry(i, os.urandom(500).hex()) for i in range(start, start + 256)])
            kept = len(journal)
        # Opening holds space back, which a full disk does not have: better to say so before anything is paid for.
        with pytest.raises(RunError, match="No space left"):
            Journal(tmp_path)
        shutil.copytree(tmp_path, copy := tmp_path.with_name("copy"))
        with Journal(copy) as journal:
            assert (len(journal), journal.cut) == (kept, 0)
            assert len(journal.find([e.key for e in in_flight])) == len(in_flight)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_read_only_folder_is_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    _tmpfs(tmp_path, "6m")
    try:
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        with pytest.raises(RunError, match=r"Read-only file system\n.*writable"):
            Journal(tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def _fill_to_the_limit(folder: Path) -> None:
    with Journal(folder) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        number = 0
        try:
            for number in range(0, 100_000, 256):
                journal.append([entry(i, os.urandom(300).hex()) for i in range(number, number + 256)])
        except RunError as error:
            assert "File too large" in str(error)
            os._exit(0 if len(journal) == number else 3)
    os._exit(2)


def test_a_file_size_limit_leaves_a_whole_journal(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_fill_to_the_limit, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    with Journal(tmp_path) as journal:
        assert journal.cut == 0
        assert len(journal) % 256 == 0
        assert len(journal) > 0


def test_a_kill_while_appending_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from test_journal import entry; from mira.llm.journal.journal import Journal\n"
        "j = Journal(Path(sys.argv[1])); n = 0\n"
        "while True:\n"
        "    j.append([entry(i) for i in range(n, n + 100)]); n += 100; print(n, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.kill()
        acknowledged = int(process.stdout.read().split()[-1])
    with Journal(tmp_path) as journal:
        assert len(journal) in {acknowledged, acknowledged + 100}
        assert len(journal.find([key(i) for i in range(acknowledged)])) == acknowledged


def test_the_index_finds_the_last_of_equal_keys_and_nothing_else() -> None:
    import numpy as np

    index = Index()
    assert index.find([key(1)]) == {}
    index.extend(key(1) + key(2), np.array([10, 20], np.uint64))
    index.extend(key(1), np.array([30], np.uint64))
    assert index.find([key(1), key(2), key(3)]) == {key(1): 30, key(2): 20}
    index.add([key(2)], 40)
    assert index.find([key(1), key(2)]) == {key(1): 30, key(2): 40}
    for i in range(70_000):
        index.add([key(i)], i)
    assert index.find([key(i) for i in range(0, 70_000, 9000)]) == {key(i): i for i in range(0, 70_000, 9000)}
