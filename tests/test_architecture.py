"""The tree keeps its shape: imports run down, rooms stay small, files stay short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mira

PACKAGE = Path(mira.__file__).parent

# From the ground floor up: a room imports from the floors below its own, never from above.
FLOORS = (
    {"_version", "arrays", "errors", "family", "unscored"},
    {"urls"},
    {"demo_files", "hashing", "plugins", "progress", "run_folder", "stats"},
    {"html", "rubric", "sharing", "tokens"},
    {"config"},
    {"engine", "llm"},
    {"stage"},
    {"leased"},
    {"corpus", "embedding"},
    {"flags", "foreign", "grouping", "judging"},
    {"discovery", "labelling"},
    {"distillation"},
    {"scoring", "selection"},
    {"reliability", "rescoring"},
    {"evaluation", "reviewing"},
    {"report"},
    {"pipeline"},
    {"cluster"},
    {"demo_project", "run_view"},
    {"viewer"},
    {"api", "auditing"},
    {"__init__", "cli"},
    {"__main__"},
)
# Who may see all settings: rooms that hand them on, `stage.py` of any room, and these functions. All others take the
# sections or the values that they read. The lists only get shorter.
SEE_CONFIG = {"api", "auditing", "cli", "config", "demo", "pipeline", "run_view", "stage", "cluster"}
_COMMAND = "a command over a finished run, which `pipeline.runner.run_extra` calls"
TAKE_CONFIG = {
    "rescoring/report.py:report_cascade": _COMMAND,
    "rescoring/served.py:run_cascade": _COMMAND,
    "evaluation/audit/audit.py:_audited": "part of `audit`: it reads two sections",
    "evaluation/audit/audit.py:_drawn": "part of `audit`: it reads two sections",
    "evaluation/audit/audit.py:audit": _COMMAND,
    "evaluation/compare.py:compare": _COMMAND,
    "reviewing/measure.py:measure": _COMMAND,
    "reviewing/measure.py:_agreement": "the body of `measure`: it reads two sections",
    "viewer/review/command.py:_review": _COMMAND,
    "viewer/review/command.py:prepare": "what `review`, and its server, begin with",
    "viewer/review/command.py:review": "the command `review` without its server",
    "viewer/review/serve.py:serve_review": "the command `review` without forms: it serves a sample",
    "evaluation/proxy/proxy.py:measure": "the command `proxy` with a size and seeds of one's own",
    "evaluation/proxy/proxy.py:proxy": _COMMAND,
    "reliability/students/report.py:_Compared.__init__": "the body of `compare_group_students`: it reads six sections",
    "reliability/students/report.py:compare_group_students": _COMMAND,
    "selection/explain/explain.py:explain": _COMMAND,
    "selection/explain/explain.py:explain_line": _COMMAND,
    "viewer/serve.py:view": "the command `view`, as `mira.view`: settings as an object or as the path of their file",
}
MOST_FILES = 18
MOST_LINES = 400


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the rooms that a module imports from, wherever in the file, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "mira":
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mira."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mira."):
                    yield alias.name.split(".")[1], node.lineno


def test_every_room_has_a_floor() -> None:
    rooms = {_room(path) for path in _modules()}
    assert rooms == set().union(*FLOORS)


def test_imports_run_down() -> None:
    floor = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
    upward = [
        f"{path.relative_to(PACKAGE)}:{line} imports {room}"
        for path in _modules()
        for room, line in _imports(path)
        if room != _room(path) and not floor.get(room, len(FLOORS)) < floor[_room(path)]
    ]
    assert not upward, "\n".join(upward)


def test_asking_an_endpoint_knows_no_rubric() -> None:
    known = {room for path in (PACKAGE / "llm").rglob("*.py") for room, _ in _imports(path)}
    assert not known & {"rubric", "judging", "corpus"}


def test_imports_stand_at_the_top_of_their_file() -> None:
    """The command line and the two doors of the package load a verb when it is asked for; all else imports at once."""
    lazy = []
    for path in _modules():
        if _room(path) in ("cli", "__init__"):
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                lazy += [
                    f"{path.relative_to(PACKAGE)}:{node.lineno}"
                    for node in ast.walk(function)
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mira")
                ]
    assert not lazy


def test_the_pipeline_starts_without_libraries_that_are_slow_to_import() -> None:
    """Every command pays for what is imported at the top of a file."""
    code = "import sys, mira.pipeline.runner; print(*{name.split('.')[0] for name in sys.modules} | {*sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "onnxruntime", "ray", "scipy", "sklearn", "torch", "transformers"} & set(loaded)


def _named_config(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(
        isinstance(node, ast.Name) and node.id == "Config" for node in ast.walk(annotation)
    )


def _taking_config(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Yield functions with a parameter, and classes with a field, whose type names `Config`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            if any(_named_config(one.annotation) for one in given if one):
                yield prefix + node.name
        if isinstance(node, ast.ClassDef) and any(
            isinstance(field, ast.AnnAssign) and _named_config(field.annotation) for field in node.body
        ):
            yield prefix + node.name
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from _taking_config(node, f"{prefix}{node.name}." if named else prefix)


def test_a_function_takes_the_settings_that_it_reads() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}:{name}"
        for path in _modules()
        if _room(path) not in SEE_CONFIG and path.name != "stage.py"
        for name in _taking_config(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == TAKE_CONFIG.keys()  # one that takes less now leaves the list


@pytest.mark.parametrize("folder", sorted({path.parent for path in _modules()}), ids=lambda p: p.name)
def test_rooms_stay_small(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_FILES


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    if path.name != "settings.py":  # one class per section, which people read as a reference
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
