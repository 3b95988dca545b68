"""docs/architecture.md has the rooms and the floors that tests/test_architecture.py enforces, and files that exist."""

import re
from pathlib import Path

import mira
from docs.pages import ROOT, blocks
from test_architecture import FLOORS

PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = Path(mira.__file__).parent


def test_the_tree_names_every_room() -> None:
    (tree,) = [block.text for block in blocks(PAGE) if block.language == "text"]
    shown = set(re.findall(r"^ +([a-z_]+)/", tree, re.MULTILINE))
    folders = {path.parent.name for path in PACKAGE.rglob("__init__.py")} - {PACKAGE.name}
    assert shown == folders


def test_the_floors_are_those_that_are_enforced() -> None:
    lines = re.findall(r"^\d+\. (`[a-z_`, ]+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    shown = [set(re.findall(r"`(\w+)`", line)) for line in lines]
    enforced = [{room for room in floor if not room.startswith("_")} for floor in reversed(FLOORS)]
    assert shown == [floor for floor in enforced if floor]


def test_the_files_that_the_walks_name_exist() -> None:
    for name in re.findall(r"`([a-z_/]+(?:\.py|/[a-z_]+))`", PAGE.read_text(encoding="utf-8")):
        assert (PACKAGE / name).exists() or (ROOT / name).exists(), name
