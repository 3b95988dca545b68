"""The pages that readers see, and the code on them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\S*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        where: Page and line, for people.
        language: What stands behind the fence.
        text: The code.
    """

    where: str
    language: str
    text: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(f"{name_of(page)}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2])
        for match in FENCE.finditer(text)
    ]


def all_blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def prose(page: Path) -> str:
    """Return a page's text without its fenced blocks, line by line where it was."""
    text = page.read_text(encoding="utf-8")
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def inline_code(page: Path) -> list[str]:
    return [code.strip() for code in CODE.findall(prose(page))]
