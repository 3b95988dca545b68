"""Bundles that are there already: scoring with them, and runs that use them instead of training."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.settings import Config, DistillSettings
from mira.corpus import build_index
from mira.distillation.bundle import pull, push, verify
from mira.distillation.encoder.student import EncoderStudent, train_encoder
from mira.distillation.sft.student import bundle_prompt
from mira.distillation.stage import distill
from mira.errors import ConfigError, InputError, RunError
from mira.labelling.stage import label
from mira.pipeline.plan import plan
from mira.pipeline.score_files import score_bundle
from mira.progress import Quiet
from mira.reliability.stage import reliability
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json, write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.scoring import score
from support.encoder_case import RUBRIC, corpus, label_table
from support.served_case import serving, sft_bundle

GROUP = RUBRIC.group
RECORDS, SCORES = corpus(120)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / GROUP
    labels = label_table(RECORDS, SCORES)
    train_encoder(labels, RECORDS, RUBRIC, None, DistillSettings(folds=2), 0, folder, Quiet())
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": r.id, "body": r.text}) + "\n" for r in RECORDS))
    return path


def cli(*arguments: object) -> list[dict]:
    result = CliRunner().invoke(app, ["score", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [row for path in result.stdout.split() for row in pq.read_table(path).to_pylist()]


def test_a_pulled_encoder_scores_records_without_endpoint_or_labels(bundle: Path, data: Path, tmp_path: Path) -> None:
    pulled = pull(push(bundle, str(tmp_path / "pushed")), tmp_path / "pulled")
    options = ("--bundle", pulled, "--input", data, "--field", "text=body", "--out", tmp_path / "out")
    rows = cli(*options, "--set", "score.workers=1")
    assert [row["id"] for row in rows] == [r.id for r in RECORDS]
    found = np.array([[row[s] for s in ("A1", "A2", "A3", "overall")] for row in rows])
    of_no_known_source = [replace(r, source="input") for r in RECORDS]
    assert found == pytest.approx(EncoderStudent.load(bundle).predict(of_no_known_source), abs=1e-4)
    assert np.ptp(found[:, 0]) > 1
    sidecar = next((tmp_path / "out" / "scores" / "input").glob("*.parquet"))
    written = sidecar.stat().st_mtime_ns
    cli(*options, "--set", "score.workers=1")
    assert sidecar.stat().st_mtime_ns == written


def test_a_source_that_the_encoder_knows_gets_its_offset(bundle: Path, data: Path, tmp_path: Path) -> None:
    options = ("--bundle", bundle, "--input", data, "--field", "text=body", "--set", "score.workers=1")
    known = EncoderStudent.load(bundle).predict([replace(r, source="source_A") for r in RECORDS])
    rows = cli(*options, "--source", "source_A", "--out", tmp_path / "a")
    assert np.array([[row[s] for s in ("A1", "A2", "A3", "overall")] for row in rows]) == pytest.approx(known, abs=1e-4)
    assert (
        np.abs(known - EncoderStudent.load(bundle).predict([replace(r, source="else") for r in RECORDS])).max() > 0.01
    )
    for source, told in (("source_A", False), ("elsewhere", True)):
        out = tmp_path / f"again_{source}"
        command = ["score", *map(str, options), "--source", source, "--out", str(out)]
        said = CliRunner().invoke(app, command, catch_exceptions=False).stderr
        assert ("have no offset of a source" in " ".join(said.split())) == told


def test_an_sft_bundle_is_scored_where_it_is_served(data: Path, tmp_path: Path) -> None:
    bundle = sft_bundle(tmp_path / "sft", RUBRIC)
    with serving(lambda user: len(user) % 11, RUBRIC) as server:
        rows = cli(
            "--bundle", bundle, "--judge", server.url, "--model", "m", "--input", data, "--field", "text=body",
            "--out", tmp_path / "out",
        )  # fmt: skip
        assert server.systems == {bundle_prompt(bundle)[1].system}
        users = [body["messages"][1]["content"] for body in server.requests]
    assert len(rows) == len(users) == len(RECORDS)
    asked = {r.id: next(u for u in users if r.text.strip() in u) for r in RECORDS}
    assert all(row["A1"] == len(asked[row["id"]]) % 11 for row in rows)


def test_other_settings_of_the_endpoint_are_asked_anew(tmp_path: Path) -> None:
    bundle, data = sft_bundle(tmp_path / "sft", RUBRIC), tmp_path / "in.jsonl"
    data.write_text(json.dumps({"text": "a record"}) + "\n")
    with serving(lambda user: len(user) % 11, RUBRIC) as server:
        options = ("--bundle", bundle, "--judge", server.url, "--model", "m", "--input", data, "--out", tmp_path / "o")
        for temperature, requests in ((0.7, 1), (0.7, 1), (0.0, 2)):
            cli(*options, "--set", f"distill.endpoint.temperature={temperature}")
            assert [r["temperature"] for r in server.requests][requests - 1 :] == [temperature]


def test_what_does_not_go_together_is_told(bundle: Path, data: Path, tmp_path: Path) -> None:
    sft, inputs = sft_bundle(tmp_path / "sft", RUBRIC), [str(data)]
    for folder, options, message in (
        (bundle, {"urls": ["http://127.0.0.1:9/v1"], "model": "m"}, "an encoder runs here"),
        (sft, {"urls": ["http://127.0.0.1:9/v1"]}, "has to be served"),
        (bundle, {"family": "qa"}, "records of family text, not qa"),
    ):
        with pytest.raises(ConfigError, match=message):
            score_bundle(folder, inputs, out=tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="--input"):
        score_bundle(bundle, [], out=tmp_path / "out")
    with pytest.raises(InputError, match="not a scorer bundle"):
        score_bundle(tmp_path, inputs, out=tmp_path / "out")
    damaged = pull(str(bundle), tmp_path / "damaged")
    (damaged / "rubric.jsonl").write_bytes((damaged / "rubric.jsonl").read_bytes().replace(b"Name 1", b"Name 9"))
    with pytest.raises(InputError, match=re.escape("rubric.jsonl: content differs")):
        score_bundle(damaged, inputs, out=tmp_path / "out")
    for more in (["--rubric", "x.jsonl"], ["mira.yaml"]):  # a bundle has its own rubric and its own settings
        assert CliRunner().invoke(app, ["score-bundle", str(bundle), *more]).exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[dict, RunFolder]:
    """A run folder with an index and labels, before its students are made."""
    sources = sorted({r.source for r in RECORDS})
    for source in sources:
        lines = [json.dumps({"id": r.id, "text": r.text}) + "\n" for r in RECORDS if r.source == source]
        (tmp_path / f"{source}.jsonl").write_text("".join(lines))
    settings = {
        "run": tmp_path / "run",
        "sources": [{"name": s, "path": str(tmp_path / f"{s}.jsonl")} for s in sources],
        "reliability": {"bootstrap": 100, "min_n": 5},
    }
    run = RunFolder(tmp_path / "run")
    build_index(Config(**settings), run, Quiet())
    group = {"name": GROUP, "family": "text", "group": "T", "sources": sources, "cosines": []}
    write_json(run.groups, {"groups": [group]})
    RUBRIC.save(run.rubric(GROUP))
    write_parquet(run.labels(GROUP), label_table(RECORDS, SCORES))
    return settings, run


def test_a_run_takes_a_bundle_and_tests_it_on_its_own_labels(labelled: tuple, bundle: Path, tmp_path: Path) -> None:
    settings, run = labelled
    config = Config(**settings, distill={"student": "bundle", "bundles": {GROUP: str(bundle)}})
    told = distill(config, run, Quiet())["groups"][GROUP]
    assert (told["kind"], told["held_out"]) == ("encoder", 24)
    own = run.student(GROUP)
    verify(own)
    assert EncoderStudent.load(own).identity == EncoderStudent.load(bundle).identity
    assert not (own / "out_of_fold.parquet").exists(), "it tells of labels that are not this run's"
    held_out = pq.read_table(own / "held_out.parquet")
    by_id = {r.id: r for r in RECORDS}
    expected = EncoderStudent.load(bundle).predict([by_id[i] for i in held_out["id"].to_pylist()])
    assert held_out["A1"].to_numpy() == pytest.approx(expected[:, 0], abs=1e-5)
    reliability(config, run, Quiet())
    assert set(pq.read_table(run.reliability)["slot"].to_pylist()) == {"A1", "A2", "A3"}
    assert verify(Path(push(own, str(tmp_path / "pushed")))) == verify(own)
    Rubric(GROUP, RUBRIC.anchors[:2]).save(run.rubric(GROUP))
    with pytest.raises(RunError, match="another rubric"):
        distill(config, run, Quiet())
    other = Config(**settings, distill={"student": "bundle", "bundles": {"text_group_Z": str(bundle)}})
    with pytest.raises(ConfigError, match="none for text_group_T"):
        distill(other, run, Quiet())


def test_a_project_is_not_scored_over(labelled: tuple, bundle: Path, data: Path) -> None:
    _, run = labelled
    with pytest.raises(ConfigError, match="is the run folder of other sources"):
        score_bundle(bundle, [str(data)], fields={"text": "body"}, out=run.path)


def test_labels_go_with_their_teacher(labelled: tuple) -> None:
    settings, run = labelled
    assert label(Config(**settings), run, Quiet())["groups"] == {}
    assert not run.labels(GROUP).exists()


def test_a_new_student_scores_in_the_same_process(labelled: tuple, tmp_path: Path) -> None:
    settings, run = labelled
    judges = []
    for name, scores in (("one", SCORES), ("two", SCORES[::-1])):
        folder = tmp_path / name
        train_encoder(label_table(RECORDS, scores), RECORDS, RUBRIC, None, DistillSettings(folds=2), 0, folder, Quiet())
        distilled = {"student": "bundle", "bundles": {GROUP: str(folder)}}
        config = Config(**settings, distill=distilled, score={"workers": 1})
        distill(config, run, Quiet())
        score(config, run, Quiet())
        sidecars = (run.path / "scores").glob("*/*.parquet")
        (judge,) = {j for path in sidecars for j in pq.read_table(path, columns=["judge"])["judge"].to_pylist()}
        assert judge == EncoderStudent.load(folder).identity
        judges.append(judge)
    assert judges[0] != judges[1]


def test_a_plan_counts_the_calls_of_a_served_bundle(labelled: tuple, bundle: Path, tmp_path: Path) -> None:
    settings, _ = labelled
    served = sft_bundle(tmp_path / "sft", RUBRIC)
    for folder, calls in ((bundle, 0), (served, len(RECORDS))):
        distilled = {"student": "bundle", "bundles": {GROUP: str(folder)}}
        endpoint = {"endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}
        planned = plan(Config(**settings, distill=distilled | endpoint), Quiet())
        assert next(p.calls for p in planned if p.name == "score") == calls


def test_a_released_students_bundle_is_sealed_and_can_be_pushed(labelled: tuple, tmp_path: Path) -> None:
    settings, run = labelled
    with serving(lambda user: len(user) % 11, RUBRIC) as server:
        endpoint = {"base_url": server.url, "model": "m"}
        config = Config(**settings, distill={"student": "endpoint", "endpoint": endpoint})
        assert distill(config, run, Quiet())["groups"][GROUP]["held_out"] == 24
        bundle = Path(push(run.student(GROUP), str(tmp_path / "pushed")))
        assert {p.name for p in bundle.iterdir()} == {"bundle.json", "rubric.jsonl", "held_out.parquet", "SHA256SUMS"}
        assert verify(bundle)["group"] == GROUP
        run.labels(GROUP).unlink()
        distill(config, run, Quiet())
        assert set(verify(run.student(GROUP))) == set(read_json(bundle / "bundle.json"))
        one = tmp_path / "one.jsonl"
        one.write_text(json.dumps({"text": "a record"}) + "\n")
        (row,) = cli("--bundle", bundle, "--judge", server.url, "--model", "m", "--input", one, "--out", tmp_path / "o")
        assert row["A1"] == len(server.requests[-1]["messages"][1]["content"]) % 11
