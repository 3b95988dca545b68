import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mira.run_folder.scratch import scratch_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from mira.run_folder.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "big").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scratch_folder_is_empty_and_removed_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path) as folder:
        assert not list(folder.iterdir())
        (folder / "inside").mkdir()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as mine:
        (mine / "file").write_text("in use")
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 2
        with scratch_folder(tmp_path) as other:
            assert other != mine
            assert len(list(tmp_path.iterdir())) == 2
        assert (mine / "file").read_text() == "in use"
        assert list(tmp_path.iterdir()) == [mine.parent]
    assert not list(tmp_path.iterdir())


def test_what_older_versions_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    """They made `mira-distill-*` without a lock, so only its age says that nobody uses it."""
    old = time.time() - 30 * 86400
    for name, filled, inside in (
        ("mira-distill-old", old, old),
        ("mira-distill-new", old, None),
        ("other-old", old, old),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "spool").write_text("x")
        if inside is not None:
            os.utime(folder / "spool", (inside, inside))
        os.utime(folder, (filled, filled))
    (tmp_path / "mira-distill-link").symlink_to(tmp_path / "other-old")
    os.utime(tmp_path / "mira-distill-link", (old, old), follow_symlinks=False)
    with scratch_folder(tmp_path):
        left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("mira-scratch-")}
    assert left == {"mira-distill-new", "other-old", "mira-distill-link"}
    assert (tmp_path / "other-old" / "spool").read_text() == "x"
