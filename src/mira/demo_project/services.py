"""Traces of tool calls that were executed for real, in the simulated services of a benchmark's wheel.

    python -I services.py WHEEL OUT

A program of its own, of the standard library alone: it imports the wheel's code, which must not enter mira's process.
The benchmark's users ask over several turns, and its ground truth says which calls answer them. The calls of half of
the records, drawn by a hash of the id, are perturbed before they are executed: one is dropped, repeated or swapped with
its neighbour, or an argument is changed. So what goes wrong in a trace went wrong for real. The same wheel gives the
same bytes on Python 3.11 to 3.13.
"""

import ast
import copy
import functools
import hashlib
import importlib
import json
import math
import operator
import sys
import tempfile
import types
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["main", "traces"]

SERVICES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
STATELESS = frozenset({"MathAPI"})
TASKS = ("base", "miss_func", "miss_param", "long_context")
MODULES = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code."
RESULT_CHARS, DESCRIPTION_CHARS = 2000, 300

Calls = list[list[str]]
"""Source code of the calls, turn by turn."""


class Digits:
    """A number that is printed with the digits asked for, as mpmath prints it."""

    shown = 15

    def __init__(self, value: float) -> None:
        self.value = value

    def __truediv__(self, other: "Digits") -> "Digits":
        return Digits(self.value / other.value)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        text = f"{self.value:.{Digits.shown}g}"
        return text if "." in text else f"{text}.0"


class Precision:
    """The settings object of mpmath, as far as the services use it."""

    def __setattr__(self, name: str, value: int) -> None:
        Digits.shown = value


def traces(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records {messages, tools, meta} of an unpacked wheel, in the benchmark's order.

    Args:
        folder: Holds the package `bfcl_eval`. It is put on the import path, and its modules stay imported.
    """
    kinds = _services(folder)
    data = folder / "bfcl_eval" / "data"
    docs = {file.stem: _lines(file) for file in sorted((data / "multi_turn_func_doc").glob("*.json"))}
    for name in TASKS:
        file = f"BFCL_v4_multi_turn_{name}.json"
        answers = {answer["id"]: answer["ground_truth"] for answer in _lines(data / "possible_answer" / file)}
        for task in _lines(data / file):
            yield _trace(task, answers[task["id"]], kinds, docs, name == "long_context")


def _services(folder: Path) -> dict[str, Any]:
    sys.path.insert(0, str(folder))
    stand_in = types.ModuleType("mpmath")  # the services' only dependency: a logarithm with so many digits
    vars(stand_in).update(mp=Precision(), log=lambda value: Digits(math.log(value)))
    sys.modules["mpmath"] = stand_in
    kinds = {}
    for name, file in SERVICES.items():
        module = importlib.import_module(MODULES + file)
        vars(module)["sum"] = _add  # the built-in one adds floats up more exactly from Python 3.12 on
        kinds[name] = getattr(module, name)
    return kinds


def _add(values: Iterable[Any], start: Any = 0) -> Any:
    return functools.reduce(operator.add, values, start)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _trace(
    task: dict[str, Any], truth: Calls, kinds: dict[str, Any], docs: dict[str, list[dict[str, Any]]], long: bool
) -> dict[str, Any]:
    calls = [[*turn] for turn in truth]
    digest = hashlib.sha256(task["id"].encode()).digest()
    note = "none" if digest[0] < 128 else _perturb(calls, digest)
    methods = _methods(task, kinds, long)
    messages: list[dict[str, Any]] = []
    used: list[str] = []
    for turn, asked in enumerate(task["question"]):
        messages += [{"role": m["role"], "content": m["content"]} for m in asked]
        for call in calls[turn] if turn < len(calls) else []:
            name, arguments, printed = _execute(call, methods)
            function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False, default=str)}
            request = {"id": f"c{len(used)}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [request]})
            messages.append({"role": "tool", "tool_call_id": request["id"], "content": printed[:RESULT_CHARS]})
            used.append(name)
    tools = [
        {"type": "function", "function": {"name": d["name"], "description": d["description"][:DESCRIPTION_CHARS]}}
        for service in task["involved_classes"]
        for d in docs.get(SERVICES[service], [])
        if d["name"] in used
    ]
    return {"messages": messages, "tools": tools, "meta": {"task": task["id"], "perturbed": note}}


def _methods(task: dict[str, Any], kinds: dict[str, Any], long: bool) -> dict[str, Any]:
    """Return name -> method of the services of a task, in the state that the task begins with."""
    methods: dict[str, Any] = {}
    for name in task["involved_classes"]:
        service = kinds[name]()
        if name not in STATELESS:
            state = copy.deepcopy(task.get("initial_config", {}).get(name, {}))
            service._load_scenario(state, long_context=long)
        methods |= {m: getattr(service, m) for m in dir(service) if not m.startswith("_")}
    return methods


def _execute(call: str, methods: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Return the call's function, its arguments by name, and what the service replied."""
    tree = ast.parse(call, mode="eval").body
    assert isinstance(tree, ast.Call)
    name = tree.func.id if isinstance(tree.func, ast.Name) else ast.unparse(tree.func)
    arguments: dict[str, Any]
    try:
        positional = [ast.literal_eval(a) for a in tree.args]
        arguments = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
        result = methods[name](*positional, **arguments)
        printed = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
        code = methods[name].__code__
        names = code.co_varnames[1 : code.co_argcount]
        return name, dict(zip(names, positional, strict=False)) | arguments, printed
    except Exception as error:  # a perturbed call may be one that the service refuses
        arguments = {str(k.arg): ast.unparse(k.value) for k in tree.keywords}
        return name, arguments, json.dumps({"error": f"{type(error).__name__}: {error}"})


def _perturb(calls: Calls, digest: bytes) -> str:
    """Perturb one call in place; return what was done: dropped, repeated, swapped, argument, or none."""
    turns = [turn for turn in calls if turn]
    if not turns:
        return "none"
    turn = turns[digest[1] % len(turns)]
    at = digest[2] % len(turn)
    kind = ("dropped", "repeated", "swapped", "argument")[digest[3] % 4]
    if kind == "dropped":
        del turn[at]
        return kind
    if kind == "repeated":
        turn.insert(at, turn[at])
        return kind
    if kind == "swapped" and len(turn) > 1:
        other = (at + 1) % len(turn)
        turn[at], turn[other] = turn[other], turn[at]
        return kind
    return _change_argument(turn, at)


def _change_argument(turn: list[str], at: int) -> str:
    tree = ast.parse(turn[at], mode="eval")
    assert isinstance(tree.body, ast.Call)
    for keyword in tree.body.keywords:
        if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            keyword.value.value += "_old"
            turn[at] = ast.unparse(tree)
            return "argument"
    return "none"


def main(wheel: Path, out: Path) -> None:
    """Write the wheel's traces to `out`, one JSON object a line."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        with zipfile.ZipFile(wheel) as archive:
            wanted = [n for n in archive.namelist() if "multi_turn" in n or n.endswith("__init__.py")]
            archive.extractall(scratch, wanted)
        with out.open("w", encoding="utf-8", newline="\n") as sink:
            sink.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in traces(Path(scratch)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
