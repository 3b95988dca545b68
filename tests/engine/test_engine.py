import importlib.util
import os
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


def test_an_error_in_a_worker_keeps_its_message() -> None:
    with pytest.raises(MiraError, match="item 3 is wrong\n  Mend it."):
        list(LocalEngine(2).map(_fail, range(8)))


def test_engines_by_name() -> None:
    assert isinstance(load_engine("local", 3), LocalEngine)
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(MiraError, match=r"mira-select\[ray\]"):
            load_engine("ray", 0)
    else:
        assert sorted(RayEngine(2).map(_square, range(8))) == [x * x for x in range(8)]
