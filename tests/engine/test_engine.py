import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mira.engine import LocalEngine, RayEngine, load_engine
from mira.errors import MiraError


def _square(x: int) -> int:
    return x * x


def _write(path: Path) -> int:
    path.write_text("done")
    return os.getpid()


def _die(_: int) -> int:
    os._exit(9)


def _fail(x: int) -> int:
    if x == 3:
        raise MiraError("item 3 is wrong", "Mend it.")
    time.sleep(0.01)
    return x


def test_every_item_has_its_result() -> None:
    assert sorted(LocalEngine(2).map(_square, range(20))) == [x * x for x in range(20)]


def test_one_worker_runs_here(tmp_path: Path) -> None:
    assert list(LocalEngine(1).map(_write, [tmp_path / "a"])) == [os.getpid()]


def test_several_workers_run_elsewhere(tmp_path: Path) -> None:
    pids = list(LocalEngine(2).map(_write, [tmp_path / name for name in "abcd"]))
    assert os.getpid() not in pids
    assert len(list(tmp_path.iterdir())) == 4


def test_a_worker_that_dies_is_a_clear_error() -> None:
    with pytest.raises(MiraError, match="a worker process died"):
        list(LocalEngine(2).map(_die, [1, 2]))


def _sleep(path: Path) -> int:
    path.write_text(str(os.getpid()))
    time.sleep(60)
    return 0


def test_workers_end_with_an_interrupt(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_engine, pathlib\n"
        "if __name__ == '__main__': list(test_engine.LocalEngine(2).map("
        "test_engine._sleep, [pathlib.Path(sys.argv[2]) / n for n in 'abcd']))"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    (tmp_path / "pids").mkdir()
    command = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "pids")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while len(list((tmp_path / "pids").glob("*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)  # to the parent alone
        process.wait(timeout=10)
    time.sleep(0.2)
    pids = [int(p.read_text()) for p in (tmp_path / "pids").iterdir()]
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_an_error_in_a_worker_keeps_its_message() -> None:
    with pytest.raises(MiraError, match=r"item 3 is wrong\n  Mend it\."):
        list(LocalEngine(2).map(_fail, range(8)))


def test_engines_by_name() -> None:
    assert isinstance(load_engine("local", 3), LocalEngine)
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(MiraError, match=r"mira-select\[ray\]"):
            load_engine("ray", 0)
    else:
        assert sorted(RayEngine(2).map(_square, range(8))) == [x * x for x in range(8)]
