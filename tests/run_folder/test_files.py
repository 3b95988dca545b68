import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from mira.run_folder.files import (
    KEY,
    atomic,
    hash_file,
    hash_json,
    read_json,
    read_key,
    sha256_file,
    together,
    write_bytes,
    write_json,
    write_parquet,
)


def test_atomic_leaves_the_old_file_when_the_body_fails(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_hash_json_ignores_key_order_only() -> None:
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": [1, 2], "a": 1})
    assert hash_json({"a": [1, 2]}) != hash_json({"a": [2, 1]})


def test_parquet_bytes_depend_on_the_table_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / name, pa.table({"x": [1, 2, None]}))
    assert hash_file(tmp_path / "a") == hash_file(tmp_path / "b")


def test_a_key_is_read_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    assert read_key(path) == ""
    write_parquet(path, pa.table({"x": [1]}).replace_schema_metadata({KEY: b"abc"}))
    assert read_key(path) == "abc"
    path.write_bytes(path.read_bytes()[:-9])
    assert read_key(path) == ""


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None, 0.5]})
    assert read_json(tmp_path / "a.json") == {"é": [1, None, 0.5]}


def test_sha256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_files_that_are_written_together_are_put_in_place_at_the_end(tmp_path):
    with together():
        for at in range(3):
            with atomic(tmp_path / f"outer{at}") as temporary:
                write_bytes(tmp_path / f"inner{at}", b"kept")
                assert (tmp_path / f"inner{at}").read_bytes() == b"kept", "what an outer file is about can be read"
                temporary.write_bytes(b"done")
            assert not (tmp_path / f"outer{at}").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{kind}{at}" for kind in ("inner", "outer") for at in range(3)
    ]


def test_what_was_finished_before_an_error_is_put_in_place(tmp_path):
    def write_two() -> None:
        with together():
            write_bytes(tmp_path / "first", b"1")
            with atomic(tmp_path / "second") as temporary:
                temporary.write_bytes(b"2")
                raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_two()
    assert [p.name for p in tmp_path.iterdir()] == ["first"]
    write_bytes(tmp_path / "third", b"3")
    assert (tmp_path / "third").read_bytes() == b"3"


def test_a_process_that_is_killed_in_a_group_leaves_no_half_file(tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom mira.run_folder.files import together, write_bytes\n"
        "with together():\n    write_bytes(Path(sys.argv[1]) / 'a', b'whole')\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_threads_that_write_one_path_at_once_do_not_meet(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: write_bytes(tmp_path / "one", bytes([i]) * 10_000), range(200)))
    data = (tmp_path / "one").read_bytes()
    assert data == data[:1] * 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("é" * 127), b"x")
    assert (tmp_path / ("é" * 127)).read_bytes() == b"x"
