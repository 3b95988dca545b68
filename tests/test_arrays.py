"""Linear algebra in one thread, whatever was imported before."""

import subprocess
import sys

import pytest

CHECK = """
from mira.arrays import one_thread
from threadpoolctl import threadpool_info
with one_thread():
    from scipy import linalg
    import numpy
    linalg.cho_factor(numpy.eye(300))
    print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
"""


@pytest.mark.parametrize("before", ["", "from scipy import linalg\n"])
def test_every_blas_uses_one_thread(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", before + CHECK], capture_output=True, text=True, check=True)
    threads = done.stdout.strip()
    assert threads.startswith("[1")
    assert set(threads) <= set("[1, ]")
