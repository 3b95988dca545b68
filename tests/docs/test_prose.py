"""Plain English on what users read. CONTRIBUTING has the style, and the rewrites behind these patterns."""

import re
import tokenize
from pathlib import Path

import pytest

from docs.pages import CODE, PAGES, ROOT, name_of, prose

GLOBS = (
    *("*.md", "docs/**/*.md", "design/*.md", ".github/**/*.md", ".github/**/*.yml"),
    *("src/mira/**/*.py", "benchmarks/*.py", "scripts/*.py", "docs/**/*.py"),
)
"""What is checked: pages, and the strings (help, errors, docstrings) and comments of programs."""

BANNED = {
    r"\btold\b": "reported, said",
    r"\btell all\b": "explain",
    r"(?<!there )(?<!there's )\b(is|are|was|were) no (?!longer|more|smaller|larger|better|worse|reason)\w+": "is not a",
    r"\bthere is none\b": "is empty, is missing",
    r"\bthere are none\b": "are missing",
    r"\bwhere there (is|are) any\b": "if any",
    r"\bthat there (is|are) not\b": "that do not exist, missing",
    r"\bwhat is no\b": "name the thing",
    r"\b(one|two|\d+|seconds|records|processes|tokens|scores?|model|replies|bytes) an? "
    r"(core|record|source|slot|cell|group|method|shard|family|fault|token|reply|request|line|model)\b": "per",
    r"\bdearer\b": "more expensive",
    r"\b(naive|cheap|other) ones\b": "name the thing",
    r"\bproves itself\b": "is tested",
    r"\bnot any more\b": "no longer",
}
FILES = sorted({path for pattern in GLOBS for path in ROOT.glob(pattern)})
MAX_WORDS = 25


WORDS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
VALUE = re.compile(r"\{[^{}]*\}")
"""What an f-string puts in: a name of the program, not a word that a user reads."""


def read(path: Path) -> str:
    """Return the prose of a file, lines where they were: no fenced blocks, no inline code, no names of a program."""
    text = python_prose(path) if path.suffix == ".py" else prose(path)
    return CODE.sub("`code`", text)


def python_prose(path: Path) -> str:
    """Return a program's strings and comments."""
    lines = [""] * (path.read_text(encoding="utf-8").count("\n") + 1)
    with path.open(encoding="utf-8") as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type in WORDS and " " in token.string:  # a single word is a key
                for number, line in enumerate(VALUE.sub("{}", token.string).splitlines(), token.start[0] - 1):
                    lines[number] += f" {line}"
    return "\n".join(lines)


def banned(path: Path) -> list[str]:
    """Return what is banned in a file, with a better way to say it."""
    return [
        f"{name_of(path)}:{number}: '{match[0]}' -> {better}"
        for number, line in enumerate(read(path).splitlines(), 1)
        for pattern, better in BANNED.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_banned_phrase(path: Path) -> None:
    found = banned(path)
    assert not found, "\n".join(found)


def test_the_patterns_catch_the_old_dialect() -> None:
    old = (
        "what is no chat endpoint is told at once",
        "base_url: there is none",
        "Processes; 0 is one a core.",
        "seconds a record",
        "Other scorers, where there are any",
        "Answers that are no replies",
    )
    for sentence in old:
        assert any(re.search(pattern, sentence, re.IGNORECASE) for pattern in BANNED), sentence


def test_changelog_lines_are_short_sentences() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = [" ".join(entry.split()) for entry in re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)]
    assert entries
    for entry in entries:
        assert entry.endswith("."), entry
        for sentence in re.split(r"(?<=[.:]) ", entry):
            assert len(sentence.split()) <= MAX_WORDS, sentence


def test_changelog_has_the_version() -> None:
    version = (ROOT / "src" / "mira" / "_version.py").read_text(encoding="utf-8").split('"')[-2]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
    assert text.index("## Unreleased") < text.index(f"## {version}")
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("design/*.md")), ROOT / "SECURITY.md"], ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)}: {target}"
