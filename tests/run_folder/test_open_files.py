"""The limit on open files. Limits of the process are changed in processes of their own."""

import errno
import os
import subprocess
import sys

import pytest

from mira.errors import refused_by_system, way_out

FIT = """
import resource, sys
from mira.run_folder.open_files import connections_that_fit
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(connections_that_fit(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fit", "then"),
    [(512, 1024, 256, 256, 512), (256, 1024, 512, 512, 640), (256, 1024, 4096, 896, 1024), (60, 60, 256, 30, 60)],
)
def test_the_limit_is_raised_as_far_as_it_goes(soft: int, hard: int, wanted: int, fit: int, then: int) -> None:
    command = [sys.executable, "-c", FIT, str(soft), str(hard), str(wanted)]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.split() == [str(fit), str(then)]


def test_the_error_names_the_limit_and_the_way_out() -> None:
    error = refused_by_system(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "data/a.jsonl"))
    assert error.message == "data/a.jsonl: Too many open files"
    assert "files open" in error.hint and "ulimit -n" in error.hint
    assert way_out(OSError(errno.EACCES, "x"), "Check the path.") == "Check the path."
