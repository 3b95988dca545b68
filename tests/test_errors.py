import re
import tomllib
from pathlib import Path

from mira.errors import install_hint

ROOT = Path(__file__).parents[1]


def test_hints_to_install_name_extras_that_there_are_and_both_ways() -> None:
    hint = install_hint("dedup")
    assert "pip install 'mira-select[dedup]'" in hint
    assert "pip install '.[dedup]'" in hint, "as the README says"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    named = {extra for text in sources for extra in re.findall(r"""install_hint\(["'](\w+)["']\)""", text)}
    assert {"dedup", "train", "s3"} <= named <= set(extras)
