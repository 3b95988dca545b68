"""A command that runs again: it reads replies that have arrived, keeps today's failure budget, and refuses damage."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mira.cli.app import app
from mira.errors import InputError, JudgeError, RunError
from mira.run_folder.files import hash_file, read_json
from support.encoder_case import RUBRIC
from support.served_case import Server, sft_bundle
from support.tiny_world import GROUP, RECORDS, SOURCES, TinyWorld, reply_of


def _answer(requests: Path, results: Path, start: int, stop: int) -> None:
    """Write batch results for some of the exported requests."""
    lines = []
    for line in map(json.loads, requests.read_text().splitlines()[start:stop]):
        message = {"content": reply_of([7.0] * len(RUBRIC.anchors))}
        body = {"choices": [{"message": message, "finish_reason": "stop"}], "model": "m"}
        lines.append(json.dumps({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}))
    results.write_text("\n".join(lines))


def _offline(world: TinyWorld, server: Server) -> None:
    endpoint = {"base_url": server.url, "model": "m"}
    world.set(teacher={"endpoint": endpoint, "offline": True, "failure_budget": 1.0}, label={"replicates": 0})


def _prepare(world: TinyWorld, *verbs: str) -> None:
    for verb in verbs:
        world.mira(verb)


def _unscored_labels(world: TinyWorld) -> int:
    labels = pq.read_table(world.run / "labels" / f"{GROUP}.parquet", columns=["reason_unscored"])
    return len(labels) - labels["reason_unscored"].null_count


def test_label_reads_replies_that_were_missing(world: TinyWorld, server: Server) -> None:
    _offline(world, server)
    _prepare(world, "index", "group", "discover", "label")
    assert _unscored_labels(world) == len(RECORDS)
    assert "label        up to date" in world.mira("label")
    requests, results = world.folder / "requests.jsonl", world.folder / "results.jsonl"
    world.mira("label", "--export", requests)
    for start, stop in ((0, 20), (20, len(RECORDS))):
        _answer(requests, results, start, stop)
        world.mira("label", "--import", results)
        assert "label        running (replies have arrived)" in world.mira("label")
        assert _unscored_labels(world) == len(RECORDS) - stop
    assert "label        up to date" in world.mira("label")
    assert not server.requests


def test_held_out_records_of_a_served_student_are_judged_once_their_replies_arrive(
    world: TinyWorld, server: Server
) -> None:
    world.use_recorded_labels()
    world.set(teacher={"offline": True, "failure_budget": 1.0})
    world.set(distill={"student": "endpoint", "endpoint": {"base_url": server.url, "model": "m"}})
    _prepare(world, "index", "group", "discover", "label", "distill")
    told = read_json(world.run / "manifest.json")["stages"]["distill"]["summary"]["groups"][GROUP]
    assert told["unscored"] == {"not_recorded": told["held_out"]} and told["held_out"] > 0
    requests, results = world.folder / "requests.jsonl", world.folder / "results.jsonl"
    world.mira("score", "--export", requests)
    _answer(requests, results, 0, len(RECORDS))
    world.mira("score", "--import", results)
    assert "distill      running (replies have arrived)" in world.mira("distill")
    held_out = pq.read_table(world.run / "students" / GROUP / "held_out.parquet")
    assert set(held_out["A1"].to_pylist()) == {7.0} and len(held_out) == told["held_out"]
    assert "distill      up to date" in world.mira("distill")
    assert not server.requests


def test_the_failure_budget_of_today_holds_for_what_is_done(world: TinyWorld) -> None:
    world.use_recorded_labels()
    path = world.folder / "replies.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[:6]:  # a tenth
        line["reply"] = "I cannot judge this."
    path.write_text("\n".join(map(json.dumps, lines)))
    _prepare(world, "index", "group", "discover")
    for budget, passes in (("1%", False), ("20%", True), ("1%", False), ("20%", True)):
        if passes:
            world.mira("label", "--failure-budget", budget)
        else:
            with pytest.raises(JudgeError, match=r"6 of 60 records stayed unscored .*budget is 1\.0%"):
                world.mira("label", "--failure-budget", budget)


def test_score_judge_force_writes_sidecars_anew_and_asks_nothing_twice(world: TinyWorld, server: Server) -> None:
    command = ["score", "--judge", server.url, "--model", "m", "--rubric", str(world.folder / "rubric.jsonl")]
    command += ["--input", str(world.folder / "source_A.jsonl"), "--out", str(world.folder / "scored")]

    def score(*options: str) -> Path:
        result = CliRunner().invoke(app, [*command, *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return Path(result.stdout.strip())

    sidecar = score()
    whole, asked, written = hash_file(sidecar), len(server.requests), sidecar.stat().st_mtime_ns
    score()
    assert sidecar.stat().st_mtime_ns == written
    damaged = bytearray(sidecar.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    sidecar.write_bytes(damaged)
    score("--force")
    assert hash_file(sidecar) == whole
    assert len(server.requests) == asked


def test_a_damaged_tuned_student_is_refused_and_not_sealed_again(world: TinyWorld, server: Server) -> None:
    world.use_recorded_labels()
    sft = {"where": "job", "references": False, "slot_order": "fixed", "max_length": 4000, "max_reply": 500}
    world.set(distill={"student": "sft", "sft": sft, "endpoint": {"base_url": server.url, "model": "m"}})
    _prepare(world, "index", "group", "discover", "label")
    with pytest.raises(RunError, match="mira adopt"):
        world.mira("distill")
    student = sft_bundle(world.run / "students" / GROUP, RUBRIC)
    world.mira("distill")
    assert "distill      up to date" in world.mira("distill")
    sums = (student / "SHA256SUMS").read_bytes()
    held_out = (student / "held_out.parquet").read_bytes()

    (student / "held_out.parquet").unlink()  # this is made anew
    world.mira("distill")
    assert (student / "held_out.parquet").read_bytes() == held_out and (student / "SHA256SUMS").read_bytes() == sums

    weights = bytearray((student / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (student / "model.safetensors").write_bytes(weights)
    for options in ([], ["--force"], []):
        with pytest.raises(InputError, match=r"model\.safetensors: content differs(.|\n)*mira adopt CONFIG"):
            world.mira("distill", *options)
        assert (student / "SHA256SUMS").read_bytes() == sums
    weights[-1] ^= 1
    (student / "model.safetensors").write_bytes(weights)
    assert "distill      running" in world.mira("distill")


def test_a_project_made_elsewhere_has_the_same_index(world: TinyWorld, tmp_path: Path) -> None:
    for source in SOURCES:
        path = world.folder / f"{source}.jsonl"
        path.write_text(path.read_text() + "{broken\n")
    world.set(select={"method": "random"})
    moved = world.copy_to(tmp_path.parent / f"{tmp_path.name} moved" / "deeper")
    said = world.mira("run")
    assert f"first: {world.folder / 'source_A.jsonl'}:" in said.replace("\n", "")
    files = [f"index/{source}/{source}.parquet" for source in SOURCES]
    whole = {name: (world.run / name).read_bytes() for name in files}
    moved.mira("run")
    assert {name: (moved.run / name).read_bytes() for name in files} == whole
    assert all(str(world.folder).encode() not in data for data in whole.values())


def test_a_moved_project_is_not_read_again(world: TinyWorld, tmp_path: Path) -> None:
    world.set(select={"method": "random"})
    world.mira("run")
    known = (world.run / "index" / ".fingerprints.json").read_bytes()
    assert str(world.folder).encode() not in known
    moved = world.copy_to(tmp_path.parent / f"{tmp_path.name} moved")
    moved.mira("run")
    assert (moved.run / "index" / ".fingerprints.json").read_bytes() == known
    assert " running" not in moved.mira("run")


def _spoil(world: TinyWorld) -> None:
    """Give every record of a source another text of the same length; ids, rows and bytes stay as they are."""
    path = world.folder / f"{SOURCES[0]}.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    size = path.stat().st_size
    path.write_text("".join(json.dumps(r | {"text": "#" + r["text"][1:]}) + "\n" for r in records))
    assert path.stat().st_size == size


@pytest.mark.parametrize("method", ["random", "mira"])
@pytest.mark.parametrize("indexed", [False, True])
def test_records_that_nobody_scored_are_never_selected(world: TinyWorld, method: str, indexed: bool) -> None:
    world.use_recorded_labels()
    world.set(select={"method": method, "budget": "50%"})
    world.mira("run")
    kept = {path.name: hash_file(path) for path in (world.run / "selected" / SOURCES[0]).iterdir()}
    _spoil(world)
    if indexed:
        world.mira("index")
    world.set(select={"budget": "40%"})
    if method == "random" and indexed:
        assert "select       done" in world.mira("select")
        return
    with pytest.raises(RunError, match=r"was run on other records than the sources hold now .*\n.*mira run"):
        world.mira("select")
    assert {path.name: hash_file(path) for path in (world.run / "selected" / SOURCES[0]).iterdir()} == kept
    world.mira("report")
    world.mira("run")
    assert "#" in (world.run / "selected" / SOURCES[0] / f"{SOURCES[0]}.jsonl").read_text()
