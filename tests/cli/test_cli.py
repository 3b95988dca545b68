"""The command line as a user meets it: help, messages, exit status. Whole commands run in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.command_line import mira_here

VERBS = ("init", "validate", "plan", "run", "demo", "index", "group", "discover", "label", "distill", "score")
VERBS += ("reliability", "flag", "select", "report", "compare", "evaluate", "explain", "cascade", "students", "proxy")
VERBS += ("adopt", "push", "pull")


def mira(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mira", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_help_names_every_verb() -> None:
    said = mira("--help")
    assert said.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in said.stdout, verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    said = mira_here(verb, "--help")
    assert said.returncode == 0
    assert "Usage:" in said.stdout


def test_init_then_validate_tells_what_is_missing(tmp_path: Path) -> None:
    assert mira("init", cwd=tmp_path).returncode == 0
    assert mira("init", cwd=tmp_path).returncode == 2
    said = mira("validate", "mira.yaml", cwd=tmp_path)
    assert said.returncode == 1
    assert "pr_issue" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run"], "Missing argument"),
        (["run", "none.yaml"], "none.yaml: there is no such file"),
        (["run", "mira.yaml", "--set", "select.bugdet=3"], "did you mean 'budget'?"),
        (["select", "mira.yaml", "--per-source-min", "docs"], "expected NAME=VALUE"),
        (["select", "mira.yaml", "--per-source-min", "dosc=10%"], "Did you mean 'docs'?"),
        (["select", "mira.yaml"], "stage 'index' has not run"),
        (["distill", "mira.yaml", "--student", "endpoint"], "distill.endpoint is missing"),
        (["explain", "mira.yaml", "x"], "there is no run yet"),
        (["compare", "mira.yaml"], "there is no run yet"),
        (["score"], "Missing argument"),
        (["score-endpoint", "--judge", "http://127.0.0.1:9/v1"], "score-endpoint needs --model"),
        (["score", "--judge", "http://127.0.0.1:9/v1"], "is now: mira score-endpoint"),
        (["score", "mira.yaml", "--bundle=x"], "is now: mira score-bundle"),
        (["label", "mira.yaml", "--failure-budget", "some"], "'some' is not a share. Write 0.5 or \"50%\"."),
        (["push", ".", "elsewhere"], "bundle.json"),
        (["pull", "nowhere", "here"], "there is no such folder"),
    ],
)
def test_mistakes_end_in_a_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "Some text."}\n')
    (tmp_path / "mira.yaml").write_text("sources: [{name: docs, path: docs.jsonl}]\n")
    said = mira_here(*arguments, cwd=tmp_path)
    assert message in said.stderr.replace("\n", " ").replace("│", "")
    assert said.returncode in (1, 2)
    assert "Traceback" not in said.stderr


def test_what_a_corpus_holds_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"\\u001b[2Jtext": "x", "id": "\\u001b]0;y"}\n')
    (tmp_path / "mira.yaml").write_text(
        "sources: [{name: docs, path: docs.jsonl}]\nselect: {method: raw, scope: global}\n"
    )
    said = mira_here("run", "mira.yaml", cwd=tmp_path)
    assert "it has: \ufffd[2Jtext" in said.stderr
    mapping = ["--set", 'sources=[{name: docs, path: docs.jsonl, fields: {text: "\\e[2Jtext"}}]']
    for arguments in (["validate", "mira.yaml", *mapping], ["run", "mira.yaml", *mapping]):
        said = mira_here(*arguments, cwd=tmp_path)
        assert said.returncode == 0, said.stderr
        assert "\x1b" not in said.stdout + said.stderr


def test_random_selection_end_to_end(tmp_path: Path) -> None:
    lines = [f'{{"text": "Text number {i}.", "n": {i}}}' for i in range(200)]
    (tmp_path / "docs.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    settings = "sources: [{name: docs, path: docs.jsonl}]\nselect: {method: random, scope: source, budget: 25%}\n"
    (tmp_path / "mira.yaml").write_text(settings)
    said = mira("run", "mira.yaml", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "docs" in said.stdout
    kept = [line for p in (tmp_path / "run/selected").rglob("*.jsonl") for line in p.read_text().splitlines()]
    assert 45 <= len(kept) <= 50
    assert all(line.split(', "mira"')[0] + "}" in lines for line in kept)
    smaller = mira("select", "mira.yaml", "--budget", "10%", "--scope", "global", cwd=tmp_path)
    assert smaller.returncode == 0, smaller.stderr
    assert "scope global" in smaller.stdout
    kept_tokens = json.loads((tmp_path / "run/thresholds.json").read_text())["tokens_kept"]
    report = (tmp_path / "run/report.html").read_text()
    assert f"{kept_tokens:,}" in report, "a selection that is run alone has its report written again"


def test_flag_tells_what_it_found_and_select_what_it_left_out(tmp_path: Path) -> None:
    leak = "a question of a benchmark that nobody should have in the data that models are trained on"
    texts = [*(f"Text number {i}." for i in range(30)), "Text number 3.", "Text number 3.", leak]
    lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "bench.jsonl").write_text(f'{{"q": "{leak}"}}\n')
    (tmp_path / "mira.yaml").write_text(
        "sources: [{name: docs, path: docs.jsonl}]\nselect: {method: random, scope: source, budget: 100%}\n"
        "flags: {benchmarks: [{name: gsm, path: bench.jsonl}], contaminated: drop, duplicates: drop}\n"
    )
    assert mira_here("index", "mira.yaml", cwd=tmp_path).returncode == 0
    said = mira_here("flag", "mira.yaml", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    row = next(line for line in said.stdout.splitlines() if "docs" in line)
    assert [int(word) for word in row.split() if word.isdigit()] == [33, 2, 0, 1, 1]
    assert str(tmp_path / "run" / "flags") in said.stdout
    said = mira_here("run", "mira.yaml", cwd=tmp_path)
    assert "Left out as contaminated (flags): 1 of 33 records (3.0%): 1 of docs" in said.stdout
    assert "Left out as duplicate (flags): 2 of 33 records (6.1%): 2 of docs" in said.stdout
