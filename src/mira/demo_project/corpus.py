"""The demo corpus: five real sources cut out of six pinned source distributions.

The corpus is a pure function of the six files. It is other people's text under their own licences: it is built on the
user's machine and never stored in mira.
"""

import ast
import hashlib
import json
import re
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mira.errors import MiraError
from mira.progress import Log
from mira.run_folder.files import atomic, sha256_file

__all__ = ["CORPUS_SHA256", "SOURCES", "build_corpus", "is_underline", "read_members", "split_by_source"]

SOURCES = ("project_docs", "release_notes", "api_reference", "examples", "unit_tests")
CORPUS_SHA256 = "702c61d5a511156e0320655b9e1a5b4f56cc8b9ea7fad7d02eb38552b7057a0e"

MIN_CHARS, MAX_CHARS = 200, 6000
DOC_SUFFIXES = frozenset({".rst", ".txt", ".md"})
READ_SUFFIXES = DOC_SUFFIXES | {".py", ".ipynb"}
REFERENCE_PACKAGES = frozenset({"celery", "networkx"})
UNDERLINE = re.compile(r"([=\-~^\"'*#+])\1{2,}")
RELEASE_PATH = re.compile(r"/(releases|history|release|announce)/|changelog|whats-new|changes")
REFERENCE_PATH = re.compile(r"/(reference|internals/reference)/")
NOT_A_MODULE = re.compile(r"(^|/)(tests?|t|testing|docs?)/")


class Piece(NamedTuple):
    """A candidate record: its source, the file and section it was cut from, its text."""

    source: str
    path: PurePosixPath
    section: str
    text: str


def build_corpus(distributions: Mapping[str, Path], out: Path, log: Log) -> None:
    """Write the corpus as JSONL: id, source, text, meta {package, path, section}.

    The id is the first 16 hex digits of sha256(source + NUL + text). A file whose content is already right is left.

    Args:
        distributions: Package -> source distribution, in the order of the output.
        out: The file to write.
        log: Where progress goes.

    Raises:
        MiraError: The output is not the pinned corpus.
    """
    if out.is_file() and sha256_file(out) == CORPUS_SHA256:
        return
    seen: set[str] = set()
    with log.task("cutting the corpus", len(distributions)) as task, atomic(out) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as sink:
            for package, path in distributions.items():
                for piece in _pieces(package, read_members(path)):
                    line = _line(package, piece, seen)
                    if line:
                        sink.write(line)
                task.advance()
        actual = sha256_file(temporary)
        if actual != CORPUS_SHA256:
            raise MiraError(
                f"the demo corpus has sha256 {actual}, expected {CORPUS_SHA256}",
                "This version of Python cuts the files differently; please report it with the output of python -VV.",
            )


def split_by_source(corpus: Path, folder: Path) -> dict[str, Path]:
    """Copy the corpus's lines into one file a source; return source -> file."""
    lines: dict[str, list[bytes]] = {source: [] for source in SOURCES}
    with corpus.open("rb") as file:
        for line in file:
            lines[json.loads(line)["source"]].append(line)
    paths = {}
    for source, found in lines.items():
        paths[source] = folder / f"{source}.jsonl"
        content = b"".join(found)
        if not paths[source].is_file() or paths[source].read_bytes() != content:
            with atomic(paths[source]) as temporary:
                temporary.write_bytes(content)
    return paths


def _line(package: str, piece: Piece, seen: set[str]) -> str | None:
    text = piece.text.strip() + "\n"
    if not MIN_CHARS <= len(text) <= MAX_CHARS:
        return None
    identity = hashlib.sha256(f"{piece.source}\0{text}".encode()).hexdigest()[:16]
    if identity in seen:
        return None
    seen.add(identity)
    meta = {"package": package, "path": piece.path.as_posix(), "section": piece.section}
    record = {"id": identity, "source": piece.source, "text": text, "meta": meta}
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_members(path: Path) -> dict[PurePosixPath, str]:
    """Return inner path -> text of every UTF-8 text file of an archive, in path order. Nothing is unpacked."""
    texts = {}
    with tarfile.open(path) as tar:
        for member in sorted((m for m in tar.getmembers() if m.isfile()), key=lambda m: m.name):
            inner = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = tar.extractfile(member) if inner.suffix in READ_SUFFIXES else None
            if content is None:
                continue
            try:
                texts[inner] = content.read().decode("utf-8").replace("\r\n", "\n")
            except UnicodeDecodeError:
                continue
    return texts


def _pieces(package: str, texts: Mapping[PurePosixPath, str]) -> Iterator[Piece]:
    modules = _modules(texts)
    for path, text in texts.items():
        source = _doc_source(package, path)
        if source:
            body = _notebook_text(text) if path.suffix == ".ipynb" else text
            for title, part in _sections(body):
                yield Piece(source, path, title, part)
        elif path.suffix == ".py" and path.name.startswith("test_"):
            about = _tested(path, modules)
            for name, code in _tests(text):
                task = f"Task: write unit tests for {about} of the package `{package}`."
                body = f"{task}\n\nTest file: `{path.as_posix()}`\n\n```python\n{code}\n```\n"
                yield Piece("unit_tests", path, name, body)


def _modules(texts: Mapping[PurePosixPath, str]) -> dict[str, list[PurePosixPath]]:
    modules: dict[str, list[PurePosixPath]] = {}
    for path in texts:
        if path.suffix == ".py" and not NOT_A_MODULE.search(path.as_posix()):
            modules.setdefault(path.stem, []).append(path)
    return modules


def _tested(path: PurePosixPath, modules: Mapping[str, list[PurePosixPath]]) -> str:
    candidates = modules.get(path.stem.removeprefix("test_"), [])
    if len(candidates) == 1:
        return f"the module `{candidates[0].as_posix()}`"
    return f"the behaviour that `{path.stem}` covers"


def _doc_source(package: str, path: PurePosixPath) -> str | None:
    name = path.as_posix()
    if path.suffix == ".ipynb" or re.match(r"examples?/.*\.py$", name):
        return "examples"
    if path.suffix not in DOC_SUFFIXES or not re.match(r"docs?/", name) or "/_" in name:
        return None
    if RELEASE_PATH.search(name):
        return "release_notes"
    if package in REFERENCE_PACKAGES and REFERENCE_PATH.search(name):
        return "api_reference"
    return "project_docs"


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield (title, part): a long reStructuredText page is cut at its headings into parts that fit."""
    lines = text.split("\n")
    headings = [i - 1 for i in range(1, len(lines)) if is_underline(lines[i], lines[i - 1])]
    if len(text) <= MAX_CHARS or not headings:
        yield "", text
        return
    part, title = "", ""
    for start, stop in pairwise([0, *(h for h in headings if h > 0), len(lines)]):
        piece = "\n".join(lines[start:stop]) + "\n"
        if part and len(part) + len(piece) > MAX_CHARS:
            yield title, part
            part, title = "", ""
        title = title or lines[start].strip()
        part += piece
    if part:
        yield title, part


def is_underline(line: str, above: str) -> bool:
    """Return whether a line underlines a heading above it."""
    mark = line.rstrip()
    return bool(UNDERLINE.fullmatch(mark)) and bool(above.strip()) and len(mark) >= len(above.rstrip()) - 1


def _notebook_text(raw: str) -> str:
    """Return a notebook's Markdown cells as they are and its code cells fenced; outputs are left out."""
    cells = []
    for cell in json.loads(raw).get("cells", []):
        source = "".join(cell.get("source", []))
        if source.strip():
            cells.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(cells)


def _tests(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, code) of each top-level test class or function of a test module."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # other people's escapes
            tree = ast.parse(text)
    except SyntaxError:
        return
    lines = text.split("\n")
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name.lower().startswith("test"):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            yield node.name, "\n".join(lines[first - 1 : node.end_lineno])
