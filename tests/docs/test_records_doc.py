"""The examples of docs/reference/records.md are records."""

import json
import re
from pathlib import Path

import yaml

from mira.corpus.families import find_family, render
from mira.family import FamilyName

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "records.md").read_text(encoding="utf-8")
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def test_every_example_is_a_record_of_its_family() -> None:
    families = [FamilyName.TEXT, FamilyName.QA, FamilyName.QA_WITH_THINK, FamilyName.AGENT]
    parts = {
        family: [render(family, json.loads(line), {}) for line in lines]
        for family, lines in zip(families, BLOCKS[:4], strict=True)
    }
    assert [p.label for p in parts[FamilyName.QA][0]] == ["Question", "Answer"]
    given, inside = parts[FamilyName.QA_WITH_THINK]
    assert given == inside and given[1].text == "7 * 13 = 91."
    assert [p.label for p in parts[FamilyName.AGENT][0]] == [
        "Tools", "[0] user", "[1] assistant", "[2] tool c1", "[3] assistant",
    ]  # fmt: skip


def test_the_mapping_reads_its_example() -> None:
    (source,) = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])["sources"]
    (line,) = BLOCKS[4]
    parts = render(FamilyName(source["family"]), json.loads(line), source["fields"])
    assert [p.text for p in parts] == ["Why does my loop never end?", "Because `i` is never changed ..."]


def test_the_table_names_every_field() -> None:
    for family in FamilyName:
        assert f"| `{family}` |" in PAGE
        for name in find_family(family).fields:
            assert f"| `{name}` |" in PAGE
