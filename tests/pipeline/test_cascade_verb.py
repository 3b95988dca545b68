"""`mira cascade` over a finished project: calls over HTTP, and a selection that follows them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.loading import load_config
from mira.errors import RunError
from mira.pipeline.runner import run_stages, stage_states
from mira.report.examples import _scores
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.selection.yardstick.held_out import held_out_quality
from support.served_case import Server, serving

GROUPS = ("text_group_A", "text_group_B")
GROUP_OF = {"release_notes": GROUPS[0], "api_reference": GROUPS[1], "examples": GROUPS[1]}


@pytest.fixture
def served(done: Path) -> Iterator[tuple[Path, list[str], dict[str, Server]]]:
    run = RunFolder(done / "run")
    with ExitStack() as stack:
        servers = {
            g: stack.enter_context(serving(lambda user: len(user) % 11, Rubric.load(run.rubric(g), g))) for g in GROUPS
        }
        endpoints = {g: {"base_url": server.url, "model": "m"} for g, server in servers.items()}
        yield done, [f"distill.endpoints={json.dumps(endpoints)}", "select.scores=cascade"], servers


def _cascade(project: Path, overrides: list[str]) -> str:
    options = [part for override in overrides for part in ("--set", override)]
    result = CliRunner().invoke(app, ["cascade", str(project / "mira.yaml"), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _stale(project: Path, overrides: list[str]) -> dict[str, tuple[str, ...]]:
    states = stage_states(load_config(project / "mira.yaml", overrides))
    return {s.stage.name: s.reasons for s in states if s.reasons}


def test_one_verb_asks_selects_and_reports(served: tuple[Path, list[str], dict[str, Server]]) -> None:
    project, overrides, servers = served
    run = RunFolder(project / "run")
    config = load_config(project / "mira.yaml", overrides)
    assert _stale(project, overrides[:1]) == {}, "where the cascade's student is served changes no stage"
    with pytest.raises(RunError, match=r"select\.scores is cascade"):
        run_stages(config, ["select"])
    said = _cascade(project, overrides)
    rows = [line.split() for line in said.partition("What that changes")[0].splitlines()]
    assert "What that changes, under the same settings" in said and "Simulated on labels" in said
    assert {row[1] for row in rows if "120" in row} == {source.name for source in config.sources}
    calls = sum(len(server.requests) for server in servers.values())
    assert 0 < calls < 0.3 * 360
    assert _stale(project, overrides) == {}
    assert read_json(run.thresholds)["scores"] == "cascade"
    assert read_json(run.cascade_report)["selection"]["records"] > 0
    rows = [row for p in run.cascade("examples").iterdir() for row in pq.read_table(p).to_pylist()]
    asked = next(row for row in rows if row["A1"] == int(row["A1"]) and row["A1"] == row["A2"] == row["A3"])
    with duckdb.connect() as con:
        assert _scores(con, config.select, run, "examples", [asked["id"]])[asked["id"]]["A1"] == asked["A1"]
        before = load_config(project / "mira.yaml")
        assert _scores(con, before.select, run, "examples", [asked["id"]])[asked["id"]]["judge"] != asked["judge"]
    held_out = held_out_quality(config.select, run, GROUP_OF)
    by_student = held_out_quality(before.select, run, GROUP_OF)
    changed = {key for key, quality in held_out.items() if quality != by_student[key]}
    assert changed and held_out.keys() == by_student.keys()
    assert all(held_out[key] % 1 == 0 for key in changed), "what the cascade judged again counts as it was judged"
    chosen = {p.name: p.read_bytes() for p in run.selection("examples").iterdir()}
    _cascade(project, overrides)
    assert calls == sum(len(server.requests) for server in servers.values()), "answers are paid for once"
    assert chosen == {p.name: p.read_bytes() for p in run.selection("examples").iterdir()}


def test_the_selection_is_stale_when_the_cascade_or_the_scores_change(
    served: tuple[Path, list[str], dict[str, Server]],
) -> None:
    project, overrides, _ = served
    run = RunFolder(project / "run")
    _cascade(project, overrides)
    shutil.rmtree(run.cascade("examples"))
    assert _stale(project, overrides)["select"] == ("cascade changed",)
    _cascade(project, overrides)
    assert _stale(project, overrides) == {}
    before = run.thresholds.read_bytes()
    _cascade(project, [*overrides, "distill.cascade.share=0.5"])
    assert run.thresholds.read_bytes() != before
    lines = (project / "examples.jsonl").read_text().splitlines()
    (project / "examples.jsonl").write_text("\n".join(lines[:-5]) + "\n")
    with pytest.raises(RunError, match=r"made of other scores|not there yet") as caught:
        run_stages(load_config(project / "mira.yaml", overrides))
    assert "mira cascade" in caught.value.hint
    _cascade(project, overrides)
    rows = [row for p in run.selection("examples").iterdir() for row in pq.read_table(p).to_pylist()]
    assert len(rows) == 115 and _stale(project, overrides) == {}
