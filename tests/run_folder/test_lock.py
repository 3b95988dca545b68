import os
import subprocess
import sys
from pathlib import Path

import pytest

from mira.run_folder.lock import LockHeld, lock_file, unlock_file

HOLDS = "import sys; from pathlib import Path; from mira.run_folder.lock import lock_file\nlock_file(Path(sys.argv[1]))"


def test_a_lock_is_held_by_one_and_names_its_process(tmp_path: Path) -> None:
    lock = lock_file(tmp_path / "lock")
    with pytest.raises(LockHeld) as caught:
        lock_file(tmp_path / "lock")
    assert caught.value.holder.startswith(f"process {os.getpid()} on ")
    unlock_file(lock)
    unlock_file(lock_file(tmp_path / "lock"))


def test_the_lock_of_a_process_that_has_ended_is_free(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLDS, str(tmp_path / "lock")], check=True)
    unlock_file(lock_file(tmp_path / "lock"))
