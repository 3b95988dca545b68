"""A live teacher over real HTTP: a server that replays what the demo's teacher said of the same records."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError, JudgeError, RunError
from mira.llm.cost import SpendingStop
from mira.pipeline.plan import plan as make_plan
from mira.pipeline.runner import run_stages
from mira.progress import Quiet
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

DATA = Path(__file__).parents[2] / "src" / "mira" / "demo_project" / "data"
SOURCES = ("release_notes", "api_reference", "examples")
SETTINGS = """\
run: run
sources:
  - {name: release_notes, path: release_notes.jsonl}
  - {name: api_reference, path: api_reference.jsonl}
  - {name: examples, path: examples.jsonl}
teacher:
  endpoint: {base_url: "URL", model: replay, api_key_env: REPLAY_KEY, price_in: 1, price_out: 2}
embedding: {windows: 1, window_tokens: 16}
group: {sample: 5, given: {text_group_A: [release_notes], text_group_B: [api_reference, examples]}}
discover: {sample: 20, rubrics: {text_group_B: text_group_B_dim_anchors.jsonl}}
label: {sample: 50, replicates: 0}
distill: {folds: 2}
score: {workers: 1}
reliability: {bootstrap: 200}
"""


class Replay(ThreadingHTTPServer):
    """Answers with the teacher's recorded reply of the record that a prompt holds."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.texts = texts
        lines = map(json.loads, (DATA / "teacher_replies.jsonl").read_text().splitlines())
        self.replies = {line["id"]: line["reply"] for line in lines if not line["replicate"]}
        free = map(json.loads, (DATA / "free_judgments.jsonl").read_text().splitlines())
        self.points = {line["id"]: line["points"] for line in free}
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, messages: list[dict[str, str]]) -> str:
        user = messages[-1]["content"]
        id_ = next(id_ for id_, text in self.texts.items() if text.strip() in user)
        if "[A1]" in user:
            return self.replies[id_]
        points = self.points.get(id_) or [
            {"dimension": f"Depth {i}", "score": i % 11, "reason": "r"} for i in range(15)
        ]
        return "\n".join(f"[{i}] {p['dimension']}: {p['score']}/10 — {p['reason']}" for i, p in enumerate(points, 1))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replay

    def do_GET(self) -> None:
        self._send({"data": [{"id": "replay"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Authorization"] == "Bearer sk-live-secret"
        self.server.requests.append(body)
        message = {"role": "assistant", "content": self.server.answer(body["messages"])}
        usage = {"prompt_tokens": 1000, "completion_tokens": 500}
        self._send({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "model": "replay"})

    def _send(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def live(demo_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Replay]]:
    judged = {json.loads(line)["id"] for line in (DATA / "teacher_replies.jsonl").read_text().splitlines()}
    records = [json.loads(line) for line in demo_corpus.read_text().splitlines()]
    records = [r for r in records if r["id"] in judged and r["source"] in SOURCES]
    for source in SOURCES:
        lines = [json.dumps(r) for r in records if r["source"] == source][:50]
        (tmp_path / f"{source}.jsonl").write_text("\n".join(lines))
    (tmp_path / "text_group_B_dim_anchors.jsonl").write_bytes((DATA / "text_group_B_dim_anchors.jsonl").read_bytes())
    server = Replay({r["id"]: r["text"] for r in records})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("REPLAY_KEY", "sk-live-secret")
    (tmp_path / "mira.yaml").write_text(SETTINGS.replace("URL", server.url))
    yield tmp_path, server
    server.shutdown()
    thread.join()
    server.server_close()


def _cli(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_live_teacher_from_discovery_to_report(live: tuple[Path, Replay]) -> None:
    project, server = live
    config = load_config(project / "mira.yaml")
    run_stages(config)
    run = RunFolder(config.run)
    assert run.report.is_file()
    rubric = Rubric.load(run.rubric("text_group_A"))
    assert sum(a.cluster_size for a in rubric.anchors) == 20 * 15
    names = {p["dimension"] for points in server.points.values() for p in points} | {f"Depth {i}" for i in range(15)}
    assert all(a.name in names for a in rubric.anchors)
    asked = len(server.requests)
    assert asked == 20 + 50 * 3  # free judging of A alone, and one label a record
    labels = pq.read_table(run.labels("text_group_B")).to_pylist()
    for row in labels:
        assert f"[A1] Algorithmic Depth: {row['A1']:g}/10" in server.replies[row["id"]]
    for path in run.path.rglob("*"):
        if path.is_file():
            assert b"sk-live-secret" not in path.read_bytes(), path

    # nothing that was paid for is asked again, whatever is lost but the journal
    for name in ("labels", "rubrics", "discovery"):
        for path in (run.path / name).iterdir():
            path.unlink()
    run.manifest.unlink()
    run_stages(config)
    assert len(server.requests) == asked


def test_the_cost_guard_stops_cleanly_and_a_rerun_goes_on(live: tuple[Path, Replay]) -> None:
    project, server = live
    config = load_config(project / "mira.yaml", ["teacher.max_requests=100"])
    with pytest.raises(SpendingStop, match="max_requests"):
        run_stages(config)
    assert len(server.requests) == 100
    run_stages(load_config(project / "mira.yaml"))
    assert len(server.requests) == 20 + 150


def test_batch_files_give_the_same_labels(live: tuple[Path, Replay]) -> None:
    project, server = live
    settings = project / "mira.yaml"
    run_stages(load_config(settings), ["index", "group", "discover", "label"])
    expected = pq.read_table(project / "run/labels/text_group_B.parquet")

    offline = ["--set", "teacher.offline=true", "--set", "run=batch"]
    asked = len(server.requests)
    for stage in ("index", "group"):
        _cli(stage, settings, *offline)
    for stage in ("discover", "label"):
        _cli(stage, settings, "--export", project / "requests.jsonl", *offline)
        results = []
        for line in map(json.loads, (project / "requests.jsonl").read_text().splitlines()):
            content = server.answer(line["body"]["messages"])
            body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "model": "replay"}
            results.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}})
        (project / "part.jsonl").write_text("\n".join(json.dumps(r) for r in results[:3]))
        said = _cli(stage, settings, "--import", project / "part.jsonl", *offline)
        n = len(results)
        assert "3 new replies, 0 known already" in said
        assert f" {n - 3} of the {n} requests last exported are still without a reply." in said
        (project / "results.jsonl").write_text("\n".join(json.dumps(r) for r in reversed(results)))
        said = _cli(stage, settings, "--import", project / "results.jsonl", *offline)
        assert f"{n - 3} new replies, 3 known already" in said
        assert "still without" not in said
        _cli(stage, settings, *offline)
    assert len(server.requests) == asked
    assert pq.read_table(project / "batch/labels/text_group_B.parquet") == expected


def test_exporting_and_importing_at_once_is_a_mistake(live: tuple[Path, Replay]) -> None:
    project, _ = live
    requests = project / "requests.jsonl"
    with pytest.raises(ConfigError, match="cannot be combined"):
        _cli("label", project / "mira.yaml", "--export", requests, "--import", requests)
    assert not requests.exists()


def test_offline_without_replies_fails_and_says_why(live: tuple[Path, Replay]) -> None:
    project, server = live
    with pytest.raises(JudgeError, match=r"20 of 20 records stayed unscored(.|\n)*--export FILE"):
        run_stages(load_config(project / "mira.yaml", ["teacher.offline=true"]))
    with pytest.raises(RunError, match="text_group_A: the teacher gave no judgment point"):
        run_stages(load_config(project / "mira.yaml", ["teacher.offline=true", "teacher.failure_budget=1"]))
    assert not server.requests


def test_a_teacher_off_the_form_is_stopped_early_in_labelling_and_in_discovery(
    live: tuple[Path, Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, server = live
    asked: list[object] = []

    def prose(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        time.sleep(0.02)
        return "A fine record, all in all."

    few = ["teacher.endpoint.max_concurrency=2"]
    run_stages(load_config(project / "mira.yaml", few), ["index", "group", "discover"])
    monkeypatch.setattr(server, "answer", prose)
    with pytest.raises(JudgeError, match=r'1\.0% of 150.*"A fine record, all in all\."'):
        run_stages(load_config(project / "mira.yaml", few), ["label"])
    assert 20 <= len(asked) < 120
    before = len(asked)
    with pytest.raises(JudgeError, match="stopped early"):
        run_stages(load_config(project / "mira.yaml", [*few, "teacher.offline=true"]), ["label"])
    assert len(asked) == before, "the replies that were paid for are in the journal"
    asked.clear()
    with pytest.raises(JudgeError, match=r'1\.0% of 50.*"A fine record, all in all\."'):
        run_stages(load_config(project / "mira.yaml", [*few, "discover.sample=50"]), ["discover"])
    assert 1 <= len(asked) < 25


def test_offline_holds_for_a_served_student_too(live: tuple[Path, Replay]) -> None:
    project, server = live
    arguments = ["score", "--judge", server.url, "--model", "replay", "--api-key-env", "REPLAY_KEY"]
    arguments += ["--rubric", str(project / "text_group_B_dim_anchors.jsonl"), "--out", str(project / "scored")]
    arguments += ["--input", str(project / "examples.jsonl")]
    with pytest.raises(JudgeError, match="50 of 50 records stayed unscored"):
        CliRunner().invoke(app, [*arguments, "--set", "teacher.offline=true"], catch_exceptions=False)
    assert not server.requests
    _cli(*arguments)  # what no reply was recorded for is asked when it may be
    assert len(server.requests) == 50


def test_a_scorer_off_the_form_is_stopped_early(live: tuple[Path, Replay], monkeypatch: pytest.MonkeyPatch) -> None:
    project, server = live
    monkeypatch.setattr(server, "answer", lambda messages: "A fine record, all in all.")
    arguments = ["score", "--judge", server.url, "--model", "replay", "--api-key-env", "REPLAY_KEY"]
    arguments += ["--rubric", str(project / "text_group_B_dim_anchors.jsonl"), "--out", str(project / "scored")]
    arguments += ["--input", str(project / "examples.jsonl")]
    with pytest.raises(JudgeError, match=r'stopped early.* 1\.0% of 50\. A reply: "A fine record'):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_validate_and_plan(live: tuple[Path, Replay]) -> None:
    project, server = live
    said = _cli("validate", project / "mira.yaml")
    assert f"teacher: {server.url} serves replay" in said
    assert "source examples: 1 shard(s)" in said
    assert "all in order" in said
    plan = _cli("plan", project / "mira.yaml")
    assert "label" in plan
    assert " 150 " in plan
    assert "no teacher" not in plan
    assert not server.requests
    twice = {p.name: p for p in make_plan(_with(project, "label.replicates=0.5"), Quiet())}["label"]
    assert (twice.records, twice.calls) == (150, 225), "a record that is judged twice is one record"
    total = next(line for line in plan.splitlines() if "of a run" in line)
    assert "170" in total.split(), "20 free judgments and 150 labels"


def _with(project: Path, *overrides: str) -> Config:
    return load_config(project / "mira.yaml", overrides)


def test_what_is_paid_for_is_not_planned_again(live: tuple[Path, Replay]) -> None:
    project, server = live
    for limit, name, n in ((12, "discover", 20), (60, "label", 150)):
        run_stages(_with(project), ["index", "group", "discover"][: 2 if name == "discover" else 3])
        with pytest.raises(SpendingStop, match="max_requests"):
            run_stages(_with(project, f"teacher.max_requests={limit}"), [name])
        planned = {p.name: p for p in make_plan(_with(project), Quiet())}[name]
        assert planned.answered == limit
        assert planned.calls == n - limit
        full = {p.name: p for p in make_plan(_with(project, "teacher.endpoint.model=another"), Quiet())}[name]
        assert (full.answered, full.calls) == (0, n), "another model's replies are no use"
        assert planned.cost is not None and full.cost is not None
        assert planned.cost == pytest.approx(full.cost * (n - limit) / n, rel=0.3)
    assert "60 replies are there already" in " ".join(_cli("plan", project / "mira.yaml").replace("│", " ").split())
    assert len(server.requests) == 80, "nothing is asked to plan"


def test_a_plan_without_a_teacher_says_that_there_is_none(live: tuple[Path, Replay]) -> None:
    project, _ = live
    said = _cli("plan", project / "mira.yaml", "--set", "teacher.endpoint=null")
    assert "no teacher is configured" in said
    assert "three ways to provide one" in said
    random = _cli("plan", project / "mira.yaml", "--set", "teacher.endpoint=null", "--set", "select.method=random")
    assert "no teacher is configured" not in random


def test_a_served_student_scores_everything(live: tuple[Path, Replay]) -> None:
    project, server = live
    out = _cli(
        "score", "--judge", server.url, "--model", "replay", "--api-key-env", "REPLAY_KEY",
        "--rubric", project / "text_group_B_dim_anchors.jsonl", "--input", project / "examples.jsonl",
        "--out", project / "scored", "--set", "shard_bytes=20000",
    )  # fmt: skip
    rows = [row for path in out.split() for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 50
    for row in rows:
        assert f"[A1] Algorithmic Depth: {row['A1']:g}/10" in server.replies[row["id"]]
    assert len(server.requests) == 50
    system = {body["messages"][0]["content"] for body in server.requests}
    assert system == {(DATA / "system_B.md").read_text()}
