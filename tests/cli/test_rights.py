"""What a user meets who may not read or write something: a message, exit status 1, no traceback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# As root every file can be read and written, unless root gives that up.
GIVE_UP = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
SETTINGS = "sources: [{name: docs, path: docs.jsonl}]\nselect: {method: random, scope: source, budget: 25%}\n"

Say = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run once."""
    folder = tmp_path_factory.mktemp("rights") / "project"
    folder.mkdir()
    (folder / "docs.jsonl").write_text("".join(json.dumps({"text": f"Text number {i}."}) + "\n" for i in range(50)))
    (folder / "mira.yaml").write_text(SETTINGS)
    subprocess.run([sys.executable, "-m", "mira", "run", "mira.yaml"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def mira(finished: Path, tmp_path: Path) -> Iterator[Say]:
    """Return what runs mira in a copy of the project, bound by the rights of its files."""
    shutil.copytree(finished, tmp_path / "project")
    prefix = GIVE_UP if os.geteuid() == 0 else []
    if prefix and (shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode):
        pytest.skip("root cannot give up its rights here")

    def say(*arguments: str, closed: str = "", rights: int = 0o000, **environment: str):
        target = tmp_path / "project" / closed
        before = target.stat().st_mode
        if closed:
            target.chmod(rights)
        try:
            return subprocess.run(
                [*prefix, sys.executable, "-m", "mira", *arguments],
                cwd=tmp_path / "project", capture_output=True, text=True, timeout=120, check=False,
                env=os.environ | environment,
            )  # fmt: skip
        finally:
            target.chmod(before)

    yield say


@pytest.mark.parametrize(
    ("arguments", "closed", "rights", "named"),
    [
        (["run", "mira.yaml", "--force"], "run", 0o555, "run: cannot be written"),
        (["validate", "mira.yaml"], "run", 0o555, "run: cannot be written"),
        (["explain", "mira.yaml", "x"], "run", 0o000, "run/manifest.json: Permission denied"),
        (["run", "mira.yaml"], "run/manifest.json", 0o000, "run/manifest.json: Permission denied"),
        (["select", "mira.yaml", "--budget", "10%"], "run/selected/docs", 0o555, "run/selected: Permission denied"),
        (["report", "mira.yaml", "--force"], "run/thresholds.json", 0o000, "run/thresholds.json: Permission denied"),
        (["index", "mira.yaml", "--force"], "docs.jsonl", 0o000, "docs.jsonl: Permission denied"),
        (["init", "new/mira.yaml"], "", 0o555, ""),
    ],
)
def test_what_may_not_be_read_or_written_is_named(
    mira: Say, arguments: list[str], closed: str, rights: int, named: str
) -> None:
    if arguments[0] == "init":
        closed, named = ".", "Permission denied"
    said = mira(*arguments, closed=closed, rights=rights)
    assert named in said.stderr.replace("\n", " "), said.stderr
    assert said.stderr.count("error:") == 1
    assert said.returncode == 1
    assert "Traceback" not in said.stderr


def test_the_demos_cache_that_may_not_be_written(mira: Say, tmp_path: Path) -> None:
    cache = tmp_path / "project" / "cache"
    cache.mkdir()
    said = mira("demo", "--folder", "demo", closed="cache", rights=0o555, MIRA_CACHE=str(cache))
    assert f"cannot keep its downloads in {cache}" in said.stderr.replace("\n", "")
    assert "Set MIRA_CACHE" in said.stderr
    assert said.returncode == 1
    assert "Traceback" not in said.stderr


def test_output_that_nobody_reads_on_is_no_error(mira: Say, tmp_path: Path) -> None:
    command = f"{sys.executable} -m mira validate mira.yaml | true; exit ${{PIPESTATUS[0]}}"
    said = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "project", capture_output=True, text=True, check=False
    )
    assert "Traceback" not in said.stderr
    assert "Exception ignored" not in said.stderr
