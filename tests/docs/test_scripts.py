"""Scripts name tests and scripts that exist: a test that moves away must not fall out of CI in silence."""

import re
from pathlib import Path

import pytest

from docs.pages import ROOT

SCRIPTS = sorted(path for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"] if path.suffix == "")


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.is_file()], ids=lambda path: path.name)
def test_paths_exist(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:tests|scripts)/[\w/.-]*\w", text):
        assert (ROOT / name).exists(), name


def test_every_test_that_needs_torch_runs_in_ci() -> None:
    listed = (ROOT / "scripts" / "test-train").read_text(encoding="utf-8")
    needs = re.compile(r'importorskip\("(torch|transformers|huggingface_hub)"|from support\.tiny_lm')
    for path in (ROOT / "tests").rglob("test_*.py"):
        if path.parent.name != "docs" and needs.search(path.read_text(encoding="utf-8")):
            assert path.relative_to(ROOT).as_posix() in listed, path
