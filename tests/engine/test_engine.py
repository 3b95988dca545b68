import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

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
        assert isinstance(load_engine("ray", 0), RayEngine)


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[RayEngine]:
    """Ray on this machine, with two workers that can load this module."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.syspath_prepend(str(Path(__file__).parent))
        yield RayEngine(2)
        ray.shutdown()


def _here(name: str) -> Any:
    """Return a function of this module under a name by which Ray's workers can import it."""
    return getattr(importlib.import_module("test_engine"), name)


def test_ray_gives_every_item_its_result(ray_engine: RayEngine, tmp_path: Path) -> None:
    assert sorted(ray_engine.map(_here("_square"), range(20))) == [x * x for x in range(20)]
    assert os.getpid() not in list(ray_engine.map(_here("_write"), [tmp_path / name for name in "abcd"]))
    assert list(ray_engine.map(_here("_square"), [])) == []
    assert list(ray_engine.map(partial(_here("_square")), [3])) == [9], "any callable will do"


def test_an_error_under_ray_is_the_one_that_was_raised(ray_engine: RayEngine) -> None:
    with pytest.raises(MiraError) as caught:
        list(ray_engine.map(_here("_fail"), range(8)))
    assert type(caught.value) is MiraError
    assert str(caught.value) == "item 3 is wrong\n  Mend it."


def test_a_ray_worker_that_dies_is_a_clear_error(ray_engine: RayEngine) -> None:
    with pytest.raises(MiraError, match="a Ray worker died") as caught:
        list(ray_engine.map(_here("_die"), [1]))
    assert "\n" not in caught.value.message


def test_a_ray_worker_without_the_code_is_a_clear_error(
    ray_engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    list(ray_engine.map(_here("_square"), [1]))  # Ray runs, and knows nothing of that folder
    with pytest.raises(MiraError, match=r"(?s)cannot load mira: .*only_here.*same mira on every node"):
        list(ray_engine.map(importlib.import_module("only_here").double, [1]))


def test_no_ray_cluster_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code = "import test_engine\nlist(test_engine.RayEngine(2).map(test_engine._square, [1]))"
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert "MiraError: Ray does not start at 127.0.0.1:1" in said.stderr
    assert "score.engine" in said.stderr


def test_ray_workers_end_with_an_interrupt(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code = (
        "import test_engine, pathlib, sys\n"
        "list(test_engine.RayEngine(2).map(test_engine._sleep, [pathlib.Path(sys.argv[1]) / n for n in 'abcd']))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {
        "PYTHONPATH": str(Path(__file__).parent)
    }
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
        assert process.wait(timeout=30) != 0
    time.sleep(0.5)
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
