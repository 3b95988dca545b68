"""Doctests as traces of a Python tool: what the text says, the call, and the output that the authors recorded."""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, NamedTuple

__all__ = ["Definition", "python_sessions"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

FEWEST = 3
"""Calls of a session."""
UNDERLINE = re.compile(r"([=\-~^\"'*#+])\1{2,}")
MARKUP = re.compile(r"\.\. |:\w+:|[-=~^]{3,}$")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "python",
            "description": "Run code in a Python session and return what it prints.",
            "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
        },
    }
]


class Step(NamedTuple):
    """What the text says before a call, the call's code, and the output."""

    prose: str
    code: str
    output: str


def python_sessions(
    package: str, path: PurePosixPath, text: str, definitions: Iterable[Definition] | None
) -> Iterator[dict[str, Any]]:
    """Yield one record for each docstring of a module, or section of a document, that holds a session.

    Args:
        package: Name of the package.
        path: Of the file, inside the package's archive.
        text: Of the file.
        definitions: The module's classes and functions; None for a document.
    """
    if definitions is not None:
        for node in definitions:
            doc = ast.get_docstring(node)
            if doc and doc.count(">>>") >= FEWEST:
                yield from _session(package, path, node.name, doc)
    elif text.count(">>>") >= FEWEST:
        lines = text.split("\n")
        heads = [i - 1 for i in range(1, len(lines)) if UNDERLINE.fullmatch(lines[i].rstrip()) and lines[i - 1].strip()]
        for start, stop in pairwise([0, *heads, len(lines)]):
            part = "\n".join(lines[start:stop])
            if part.count(">>>") >= FEWEST:
                yield from _session(package, path, lines[start].strip(), part)


def _session(package: str, path: PurePosixPath, name: str, text: str) -> Iterator[dict[str, Any]]:
    steps, rest = _steps(text, indented=path.suffix != ".py")
    if len(steps) < FEWEST:
        return
    task = f"Show how `{name}` of `{package}` is used ({path.as_posix()}).\n\n{steps[0].prose}".strip()
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    for number, step in enumerate(steps):
        arguments = json.dumps({"code": step.code}, ensure_ascii=False)
        call = {"id": f"c{number}", "type": "function", "function": {"name": "python", "arguments": arguments}}
        prose = step.prose if number and step.prose else None
        messages.append({"role": "assistant", "content": prose, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": step.output or "(no output)"})
    if rest:
        messages.append({"role": "assistant", "content": rest})
    meta = {"package": package, "path": path.as_posix(), "section": name}
    yield {"messages": messages, "tools": TOOLS, "meta": meta}


def _steps(text: str, indented: bool) -> tuple[list[Step], str]:
    """Return the steps of a text, and the prose after the last one.

    Args:
        text: The text.
        indented: Only indented lines are output, as in documents; a docstring has lost its indentation.
    """
    steps: list[Step] = []
    prose: list[str] = []
    code: list[str] = []
    output: list[str] = []

    def flush() -> None:
        if code:
            steps.append(Step("\n".join(prose).strip(), "\n".join(code), "\n".join(output).rstrip()))
            for lines in (prose, code, output):
                lines.clear()

    inside = False
    for line in text.split("\n"):
        bare = line.strip()
        if bare.startswith(">>>"):
            if output or prose:
                flush()
            code.append(bare[4:])
            inside = True
        elif bare.startswith("...") and inside and not output:
            code.append(bare[4:])
        elif inside and bare and (not indented or line.startswith((" ", "\t"))):
            output.append(bare)
        elif inside and not bare:
            flush()
            inside = False
        else:
            inside = False
            if bare and not MARKUP.match(bare):
                prose.append(bare.rstrip(":") + (":" if bare.endswith("::") else ""))
    flush()
    return steps, "\n".join(prose)
