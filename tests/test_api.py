import ast
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import mira
from mira.cli.app import app
from mira.errors import ConfigError, InputError
from mira.pipeline.registry import STAGES

PACKAGE = Path(mira.__file__).parent


def test_every_public_name_is_there_and_documented() -> None:
    for name in mira.__all__:
        value = getattr(mira, name)
        assert name == "__version__" or value.__doc__, name
    assert mira.__all__ == sorted(mira.__all__)
    assert dir(mira) == mira.__all__


def test_no_folder_or_module_bears_a_public_name() -> None:
    # Importing mira.plan, say, would put the module in the place of the function.
    names = {path.stem for path in PACKAGE.iterdir()}
    assert not names & set(mira.__all__)


def test_the_names_that_type_checkers_see_are_those_that_there_are() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mira.")
        for alias in node.names
    }
    assert set(imported) == set(mira.__all__)
    for name, (module, attribute) in imported.items():
        assert getattr(mira, name) is getattr(sys.modules[module], attribute), name


def test_importing_mira_is_light() -> None:
    code = (
        "import sys, mira, mira.cli.app; sys.exit(any(m in sys.modules for m in ('sklearn', 'onnxruntime', 'duckdb')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mira.nonsense


def test_every_command_is_a_function_and_every_stage_an_argument() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    verbs = {name.replace("-", "_") for name, command in commands.items() if not command.hidden}
    stages = {stage.name for stage in STAGES}
    assert stages <= verbs
    for verb in verbs - stages:
        assert callable(getattr(mira, verb)), verb
        assert verb in mira.__all__, verb


def test_init_writes_settings_and_will_not_write_over_them(tmp_path: Path) -> None:
    path = mira.init(tmp_path / "mira.yaml")
    assert "sources:" in path.read_text()
    with pytest.raises(ConfigError, match="is there already"):
        mira.init(path)


def test_bundles_are_copied_by_names_as_well_as_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        mira.pull(str(tmp_path / "nothing"), str(tmp_path / "bundle"))
    with pytest.raises(InputError):
        mira.push(str(tmp_path / "nothing"), str(tmp_path / "bundle"))


def test_explain_takes_one_of_three(tmp_path: Path) -> None:
    for given in ({}, {"id": "a", "text": "b"}, {"line": 3, "text": "b"}):
        with pytest.raises(TypeError, match="one of id, line and text"):
            mira.explain(tmp_path / "mira.yaml", **given)  # type: ignore[call-overload]
