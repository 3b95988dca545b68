"""One command at a time works in a run folder at a URL."""

from pathlib import Path

import pytest

from mira.errors import RunError
from mira.leased.only_one import only_one
from mira.run_folder.folder_store import FolderStore
from mira.sharing.lease import Leases


def test_one_command_at_a_time_works_at_a_url(tmp_path: Path) -> None:
    store, notes = FolderStore(tmp_path), list[str]()
    with (
        only_one(store, "here", notes.append, beat_s=1),
        pytest.raises(RunError, match=r"another mira \(process \d+ on .*\) is working in this run folder"),
        only_one(store, "there", notes.append, beat_s=4),
    ):
        pass
    with only_one(store, "there", notes.append, beat_s=60):
        pass
    assert notes == []


def test_a_command_that_died_on_this_machine_need_not_be_waited_for(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    dead = Leases(store, "run", place="here", beat_s=60)
    dead.survey()
    assert dead.take("", "command")
    with only_one(store, "here", lambda _: None, beat_s=60):
        pass
