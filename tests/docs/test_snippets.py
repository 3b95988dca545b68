"""Code on the pages works: settings load, commands exist, Python runs, JSON is JSON."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

import mira
from docs.pages import PAGES, ROOT, Block, all_blocks, blocks, inline_code, name_of

LANGUAGES = {"bash", "yaml", "python", "json", "text", "toml", "{toctree}"}
BASE = {"sources": [{"name": name, "path": "data/*.jsonl"} for name in ("pr_issue", "deepwiki", "stack_qa")]}


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location("mira_reference", ROOT / "docs" / "_ext" / "mira_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS: dict[str, Any] = _reference().commands()


def commands_in(text: str) -> list[list[str]]:
    """Return the `mira` commands of a shell snippet, split into words."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [list(takewhile(lambda word: word != ">", line[1:])) for line in words if line[:1] == ["mira"]]


def verb_of(words: list[str]) -> tuple[str, list[str]]:
    """Return the command that the words name, and what follows it."""
    length = next(n for n in (2, 1) if " ".join(words[:n]) in COMMANDS or n == 1)
    return " ".join(words[:length]), words[length:]


def parse(words: list[str]) -> Any:
    """Parse a command line as the program does, without running it."""
    verb, rest = verb_of(words)
    assert verb in COMMANDS, f"mira has no command '{verb}'"
    return COMMANDS[verb].make_context(verb, list(rest))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_known_language(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block.where


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=lambda block: block.where)
def test_settings_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "mira.yaml"
    (tmp_path / "base.yaml").write_text("seed: 1\n", encoding="utf-8")  # for pages that include it
    path.write_text(yaml.safe_dump(BASE | yaml.safe_load(block.text)), encoding="utf-8")
    mira.load_config(path)


@pytest.mark.parametrize("block", all_blocks("bash"), ids=lambda block: block.where)
def test_commands_exist(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "mira.yaml"
    endpoint = {"base_url": "http://localhost:8000/v1", "model": "NAME"}
    path.write_text(yaml.safe_dump({**BASE, "distill": {"endpoint": endpoint}}), encoding="utf-8")
    for script in re.findall(r"(?:^|\s)((?:scripts|benchmarks)/\S+|\.ci/\S+)", block.text):
        assert (ROOT / script).is_file(), script
    for words in commands_in(block.text):
        mira.load_config(path, parse(words).params.get("set_") or [])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_in_prose_exist(page: Path) -> None:
    for code in inline_code(page):
        if code.startswith("mira ") and not re.search(r"mira [A-Z.]", code):
            verb, rest = verb_of(shlex.split(code)[1:])
            assert verb in COMMANDS or verb.startswith("-"), code
            if verb in COMMANDS:
                known = {name for p in COMMANDS[verb].params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
                assert {word for word in rest if word.startswith("--")} <= known, code


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_in_prose_exist(page: Path) -> None:
    known = {name for name, _ in _reference().settings()}
    sections = {name.partition(".")[0] for name in known if "." in name}
    for code in inline_code(page):
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", code) and code.partition(".")[0] in sections:
            assert code in known or code.rpartition(".")[2] in ("py", "md", "html", "json", "parquet"), code


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.where)
def test_json_is_json_lines(block: Block) -> None:
    for line in block.text.splitlines():
        assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.language == "python" for b in blocks(p))], ids=name_of)
def test_python_runs(page: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shutil.copytree(finished_run, tmp_path / "project"))
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)


def test_the_anchors_example_is_a_rubric(tmp_path: Path) -> None:
    path = tmp_path / "text_group_A_dim_anchors.jsonl"
    found = []
    for block in blocks(ROOT / "docs" / "reference" / "anchors.md"):
        if block.language == "json":
            path.write_text(block.text, encoding="utf-8")
            found.append(mira.Rubric.load(path))
    own, other = found
    assert own.slots == other.slots == ["A1", "A2"]
    assert own.anchors[0].references[0].dimension == "Conceptual Depth"
    for one, same in zip(own.anchors, other.anchors, strict=True):
        assert (one.name, one.cluster_size) == (same.name, same.cluster_size)
        assert (one.exemplar.score, one.exemplar.reason) == (same.exemplar.score, same.exemplar.reason)


def test_the_reply_example_is_a_reply() -> None:
    (text,) = [b.text for b in blocks(ROOT / "docs" / "how-to" / "batch-files.md") if b.language == "text"]
    reply = mira.parse_reply(text, ["Analytical Depth", "Factual Precision"])
    assert reply.scores == (7.5, 8)
    assert reply.overall == 71


def test_the_method_of_a_package_is_found_and_selects(finished_run: Path, tmp_path: Path) -> None:
    project = shutil.copytree(finished_run, tmp_path / "project")
    page = blocks(ROOT / "docs" / "how-to" / "extend.md")
    found = {block.language: block.text for block in reversed(list(page))}  # the first of each
    points = tomllib.loads(found["toml"])["project"]["entry-points"]["mira.methods"]
    site = tmp_path / "site"  # what `pip install` would leave
    (site / "my_package").mkdir(parents=True)
    (site / "my_package" / "shortest.py").write_text(found["python"], encoding="utf-8")
    info = site / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[mira.methods]\n{lines}", encoding="utf-8")
    (words,) = commands_in(found["bash"])
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-m", "mira", *words], cwd=project, env=os.environ | {"PYTHONPATH": path}, check=True
    )
    selected = mira.open(project / "run").selection.to_pylist()
    longest = max(row["n_tokens"] for row in selected if row["kept"])
    assert all(row["n_tokens"] >= longest for row in selected if not row["kept"])
    assert any(row["kept"] for row in selected)
