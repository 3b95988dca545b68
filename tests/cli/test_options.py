"""Every option of every verb is read: a value that cannot be right is refused with a message, before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mira.cli.app import app, main
from mira.errors import JudgeError, MiraError
from mira.pipeline.registry import STAGES
from mira.run_folder.files import hash_path
from support.encoder_case import RUBRIC
from support.fault_server import FaultServer, rubric
from support.served_case import serving, sft_bundle
from support.tiny_world import RECORDS, TinyWorld

CONFIG = ["index", "join", "group", "reliability", "flag", "report"]
LIMITS = {
    "--max-cost": (["--max-cost", "-1"], "max_cost"),
    "--max-requests": (["--max-requests", "-1"], "max_requests"),
    "--failure-budget": (["--failure-budget", "200%"], "failure_budget"),
    "--set": (["--set", "selekt=1"], "did you mean"),
}
SET = {"--set": LIMITS["--set"]}
FORCE = {"--force": (["--force", "--set", "selekt=1"], "did you mean")}  # that it works: test_force_runs_again
BATCH = {
    "--export": (["--export", "https://host/x.jsonl"], "cannot write to https://"),
    "--import": (["--import", "nowhere.jsonl"], "nowhere.jsonl"),
    "--force": (["--force", "--export", "x.jsonl"], "--force"),
}
BOUNDS = ("--source-min", "--source-max", "--per-source-min", "--per-source-max")
METHODS = {"--methods": (["--methods", "best"], "best")}
FILES = {
    "--judge": (["--judge", "nonsense"], "nonsense"), "--model": (["--model", "", "--judge", "http://x/v1"], "model"),
    "--input": (["--input", "nowhere.jsonl"], "nowhere.jsonl"), "--source": (["--source", "a/b"], "name"),
    "--family": (["--family", "poem"], "--family"), "--field": (["--field", "text"], "expected NAME=VALUE"),
    "--out": (["--out", "https://host/out"], "cannot write to https://"),
    "--api-key-env": (["--api-key-env", "NO_KEY"], "NO_KEY"),
}  # fmt: skip

WRONG: dict[str, dict[str, tuple[list[str], str]]] = {
    "init": {},
    "validate": SET | {"--deep": (["--deep", "--set", "selekt=1"], "did you mean")},
    "plan": SET,
    "run": LIMITS | FORCE,
    "freeze": SET | {"--folder": (["--folder", "s3://bucket/rubrics"], "local folders only")},
    "demo": {
        "--folder": (["--folder", "s3://bucket/demo"], "local folders only"),
        "--family": (["--family", "nosuch"], "nosuch"),
    },
    **dict.fromkeys(CONFIG, SET | FORCE),
    "discover": LIMITS | BATCH,
    "label": LIMITS | BATCH,
    "distill": SET | FORCE | {"--student": (["--student", "x"], "--student")},
    "score": LIMITS | BATCH,
    "score-bundle": LIMITS | BATCH | FILES,
    "score-endpoint": LIMITS | BATCH | FILES | {"--rubric": (["--rubric", "nowhere.jsonl"], "nowhere.jsonl")},
    "select": LIMITS | FORCE | {
        "--method": (["--method", "best"], "method"), "--scope": (["--scope", "all"], "scope"),
        "--budget": (["--budget", "half"], "budget"), "--temperature": (["--temperature", "-1"], "temperature"),
        **{o: ([o, "nosuch=1"], "nosuch") for o in BOUNDS},
        "--seed": (["--seed", "x"], "--seed"),
    },
    "work": LIMITS | {
        "--stage": (["--stage", "report"], "workers do no stage 'report'"), "--shard": (["--shard", "5"], "0 to 1"),
        "--of": (["--of", "0"], "at least one worker"), "--missing": (["--missing"], "about all workers"),
    },
    "slurm": SET | {
        "--workers": (["--workers", "0"], "--workers"), "--cpus": (["--cpus", "0"], "--cpus"),
        "--partition": (["--partition", "a b"], "--partition"), "--time": (["--time", "1 day"], "--time"),
        "--memory": (["--memory", "8 G"], "--memory"),
    },
    "k8s": SET | {
        "--workers": (["--workers", "0"], "--workers"), "--cpus": (["--cpus", "0"], "--cpus"),
        "--image": (["--image", "a b"], "--image"), "--memory": (["--memory", "8 G"], "--memory"),
    },
    "compare": LIMITS | METHODS,
    "evaluate": LIMITS | {
        "--pairs": (["--pairs", "nowhere.jsonl"], "nowhere.jsonl"),
        "--judge": (["--judge"], "--judge"), "--dry-run": (["--dry-run"], "--dry-run"),
        "--source": (["--source", "docs"], "--source"),
    },
    "audit": SET | {
        "--scorer": (["--scorer", "nosuch"], "nosuch"), "--by": (["--by", "nosuch"], "nosuch"),
        "--against": (["--against", "nosuch"], "nosuch"), "--reference": (["--reference", "nosuch"], "nosuch"),
        "--scores": (["--scores", "nowhere.parquet"], "or --scores"), "--column": (["--column", "x"], "--column"),
        "--input": (["--input", "docs.jsonl"], "--input"), "--id": (["--id", "x"], "--id"),
        "--id-field": (["--id-field", "x"], "--id-field"), "--text-field": (["--text-field", "x"], "--text-field"),
        "--source-field": (["--source-field", "x"], "--source-field"), "--family": (["--family", "qa"], "--family"),
        "--better": (["--better", "lower"], "--better"), "--json": (["--json", "https://host/x"], "cannot write to https://"),
    },
    "diff": {"--flips": (["--flips", "x"], "--flips"), "--json": (["--json", "https://host/x"], "cannot write to https://")},
    "explain": SET | {
        "--source": (["--source", "nosuch"], "nosuch"), "--limit": (["--limit", "x"], "--limit"),
        "--line": (["--line", "x"], "expected one of ID"), "--text": (["--text", "x"], "expected one of ID"),
    },
    "cascade": LIMITS,
    "view": {
        "--settings": (["--settings", "nowhere.yaml"], "nowhere.yaml"),
        "--host": (["--host", "example.org"], "not an IP address"), "--port": (["--port", "x"], "--port"),
        "--export": (["--export", "."], "it is there already"), "--records": (["--records", "x"], "--records"),
    },
    "review": SET | {
        "--slots": (["--slots", "--set", "selekt=1"], "did you mean"),
        "--export": (["--export", "forms.xlsx"], "ends in .csv or .jsonl"),
        "--import": (["--import", "nowhere.csv"], "nowhere.csv"),
        "--reviewer": (["--export", "forms.csv", "--reviewer", "a\nb"], "not a name"),
        "--report": (["--report", "--set", "selekt=1"], "did you mean"),
        "--precision": (["--precision", "90"], "Did you mean 90%"),
        "--host": (["--host", "example.org"], "not an IP address"), "--port": (["--port", "x"], "--port"),
    },
    "students": SET,
    "proxy": SET | METHODS | {"--seeds": (["--seeds", "x"], "--seeds"), "--size": (["--size", "x"], "--size")},
    "adopt": SET,
    "push": {"--public": (["--public"], "--public")},
    "pull": {},
}  # fmt: skip
SERVED = ["--judge", "http://127.0.0.1:9/v1", "--model", "m", "--input", "docs.jsonl"]
ARGUMENTS = {
    "work": ["mira.yaml", "--stage", "index", "--shard", "0", "--of", "2"],
    "explain": ["id"], "adopt": ["group", "folder"], "demo": [], "diff": [".", "."], "push": [".", "elsewhere"],
    "score-bundle": ["bundle", *SERVED], "score-endpoint": ["--rubric", "rubric.jsonl", *SERVED],
}  # fmt: skip
WITH_CONFIG = ("explain", "adopt")


def _options() -> dict[str, set[str]]:
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    return {
        verb: {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        for verb, command in commands.items()
    }


def test_the_table_names_every_option_of_every_verb() -> None:
    assert {verb: set(wrong) for verb, wrong in WRONG.items()} == _options()


# Refused only over a finished run (test_options_that_need_a_run_are_read) or a bundle that fits its records
# (test_a_bundle_is_scored_with_its_key_and_by_force).
NEED_A_RUN = {
    ("audit", "--by"),
    ("audit", "--scorer"),
    ("audit", "--against"),
    ("audit", "--reference"),
    ("compare", "--methods"),
    ("evaluate", "--pairs"),
    ("explain", "--source"),
    ("proxy", "--methods"),
    ("view", "--host"),
    ("view", "--export"),
}
NEED_A_RUN |= {("score-bundle", "--api-key-env")}


@pytest.mark.parametrize(
    ("verb", "option"), [(v, o) for v, given in WRONG.items() for o in given if (v, o) not in NEED_A_RUN]
)
def test_every_option_is_read(
    verb: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "Some text."}\n')
    (tmp_path / "mira.yaml").write_text("sources: [{name: docs, path: docs.jsonl}]\n")
    monkeypatch.chdir(tmp_path)
    given, words = WRONG[verb][option]
    rubric().save(tmp_path / "rubric.jsonl")
    if verb == "score-bundle":
        sft_bundle(tmp_path / "bundle", rubric())
    before = (
        ARGUMENTS[verb] if verb in ARGUMENTS and verb not in WITH_CONFIG else ["mira.yaml", *ARGUMENTS.get(verb, [])]
    )
    monkeypatch.setattr(sys, "argv", ["mira", verb, *before, *given])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code in (1, 2)
    said = capsys.readouterr().err.replace("\n", " ").replace("│", "")
    assert words in said
    assert not (tmp_path / "run" / "index").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    world = TinyWorld(tmp_path_factory.mktemp("finished"))
    world.use_recorded_labels()
    world.mira("run")
    return world


@pytest.mark.parametrize(("verb", "option"), sorted(key for key in NEED_A_RUN if key[0] != "score-bundle"))
def test_options_that_need_a_run_are_read(finished: TinyWorld, verb: str, option: str) -> None:
    given, words = WRONG[verb][option]
    before = hash_path(finished.run)
    with pytest.raises(MiraError, match=words):
        finished.mira(verb, *([RECORDS[0].id] if verb == "explain" else []), *given)
    assert hash_path(finished.run) == before


FORCED = sorted(verb for verb, given in WRONG.items() if "--force" in given and not verb.startswith("score-"))


@pytest.mark.parametrize("verb", FORCED)
def test_force_runs_again(finished: TinyWorld, verb: str) -> None:
    finished.mira("flag")
    finished.mira("join")
    before = {stage: hash_path(finished.run / stage) for stage in ("index", "labels", "scores", "selected")}
    said = finished.mira(verb, "--force")
    stages = [stage.name for stage in STAGES if stage.name in said] if verb == "run" else [verb]
    assert len(stages) == (9 if verb == "run" else 1)
    assert all(f"{stage:<12} running (forced)" in said for stage in stages)
    assert {stage: hash_path(finished.run / stage) for stage in before} == before
    assert f"{stages[0]:<12} up to date" in finished.mira(verb)


def test_a_bundle_is_scored_with_its_key_and_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs.jsonl").write_text('{"text": "Some text."}\n')
    sft_bundle(tmp_path / "bundle", RUBRIC)
    given, words = WRONG["score-bundle"]["--api-key-env"]
    with serving(lambda text: len(text) % 11, RUBRIC) as server:
        command = ["score-bundle", "bundle", "--judge", server.url, "--model", "m", "--input", "docs.jsonl"]
        with pytest.raises(JudgeError, match=f"{words}, named by api_key_env, is not set"):
            CliRunner().invoke(app, [*command, *given], catch_exceptions=False)
        assert not server.requests
        times = []
        for more in ([], [], ["--force"]):
            result = CliRunner().invoke(app, [*command, *more], catch_exceptions=False)
            assert result.exit_code == 0, result.output
            times.append(Path(result.stdout.strip()).stat().st_mtime_ns)
        assert times[0] == times[1] < times[2]
        assert len(server.requests) == 1, "what was paid for is read from the journal"


def _mira(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mira", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)


def _score(folder: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    judge = ["--judge", url, "--model", "fake", "--rubric", "rubric.jsonl", "--input", "docs.jsonl", "--out", "run"]
    return _mira(folder, "score", *judge, *more)


def test_score_with_a_judge_exports_and_imports_and_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "<<record 1>> Some text."}\n')
    rubric().save(tmp_path / "rubric.jsonl")
    with FaultServer() as server:
        said = _score(tmp_path, server.url, "--export", "requests.jsonl")
        assert said.returncode == 0, said.stderr
        assert "1 requests in requests.jsonl" in said.stdout
        assert len((tmp_path / "requests.jsonl").read_text().splitlines()) == 1
        (tmp_path / "results.jsonl").write_text("{}\n")
        said = _score(tmp_path, server.url, "--import", "results.jsonl")
        assert said.returncode == 1
        assert "no line is a batch result" in said.stderr
        assert not server.asked
