import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import fsspec
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError, InputError, RunError
from mira.evaluation.stage import evaluate
from mira.pipeline.fingerprints import stage_files, stage_settings
from mira.pipeline.preflight import check_teacher
from mira.pipeline.registry import STAGES
from mira.pipeline.runner import run_extra, run_stages, stage_states
from mira.progress import Quiet
from mira.reliability.students.report import compare_group_students
from mira.run_folder.paths import RunFolder
from mira.tokens import tokenizer
from support.notes import Notes

ALL = [stage.name for stage in STAGES if stage.name not in ("flag", "join")]  # which the settings ask for


def _run(config: Config, *names: str) -> Notes:
    notes = Notes()
    run_stages(config, names, notes)
    return notes


def _result(config: Config) -> dict[str, str]:
    """Hash everything that a run gives, by path."""
    run = RunFolder(config.run)
    folders = ("rubrics", "labels", "scores", "selection", "selected")
    files = [p for folder in folders for p in (run.path / folder).rglob("*") if p.is_file()]
    files += [run.groups, run.reliability, run.thresholds, run.report]
    return {str(p.relative_to(run.path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _config(project: Path, *overrides: str) -> Config:
    return load_config(project / "mira.yaml", overrides)


def test_everything_runs_and_a_rerun_in_another_place_does_nothing(project: Path, done: Path) -> None:
    assert [s.reasons for s in stage_states(_config(project))][:2] == [("not run yet",), ("waits for index",)]
    assert Notes((done / "said.txt").read_text().splitlines()).ran() == ALL
    assert _run(_config(done)).ran() == []
    assert not any(state.reasons for state in stage_states(_config(done)))


def test_an_embedding_model_in_a_folder_is_known_by_its_content(project: Path) -> None:
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text("{}")
    config = _config(project, "embedding.model=model")
    stages = [s for s in STAGES if s.name in ("group", "discover", "distill")]
    run = RunFolder(config.run)
    before = [stage_files(stage, config, run)["embedding.model"] for stage in stages]
    assert all("embedding.model" not in stage_settings(stage, config) for stage in stages)
    assert all("embedding.model" in stage_settings(s, _config(project, "embedding.model=org/model")) for s in stages)
    (project / "model" / "config.json").write_text("{ }")
    assert not set(before) & {stage_files(stage, config, run)["embedding.model"] for stage in stages}


def test_a_base_model_in_a_folder_is_known_by_its_content_and_the_sizes_of_its_weights(project: Path) -> None:
    (distill,) = (s for s in STAGES if s.name == "distill")
    (project / "base").mkdir()
    files = {"base/config.json": "{}", "base/model.safetensors": "weights", "chat.jinja": "{{ messages }}"}
    for name, text in files.items():
        (project / name).write_text(text)
    config = _config(project, "distill.student=sft", "distill.sft={model: base, chat_template: chat.jinja}")
    assert str(project) not in json.dumps(stage_settings(distill, config)), "a project can be moved"
    found = [stage_files(distill, config, RunFolder(config.run))]
    for name, text in files.items():
        (project / name).write_text(text + " ")
        found.append(stage_files(distill, config, RunFolder(config.run)))
    models, templates = ([f[f"distill.sft.{name}"] for f in found] for name in ("model", "chat_template"))
    assert len(set(models)) == 3 and models[2] == models[3]
    assert len(set(templates[:3])) == 1 and templates[3] != templates[0]
    assert stage_files(distill, _config(project, "distill.sft.model=base"), RunFolder(config.run)) == {}, "no encoder's"


def test_benchmarks_at_urls_and_in_folders_are_known_by_their_content(project: Path) -> None:
    memory = fsspec.filesystem("memory")
    (project / "bench").mkdir()
    (flag,) = (s for s in STAGES if s.name == "flag")
    config = _config(project, "flags.benchmarks=[{name: far, path: 'memory://b/*.jsonl'}, {name: near, path: bench}]")
    found = []
    for text in ("one", "two"):
        memory.pipe("/b/in.jsonl", json.dumps({"text": text}).encode())
        (project / "bench" / "in.jsonl").write_text(json.dumps({"text": text}))
        found.append(flag.files(config, RunFolder(config.run)))
    assert found[0].keys() == {"flags.benchmarks.far", "flags.benchmarks.near"}
    assert all(found[0][name] != found[1][name] for name in found[0])


def test_only_what_depends_on_a_change_runs_again(done: Path) -> None:
    project, config = done, _config(done)
    first = _result(config)

    # another budget: select and report, and says why
    notes = _run(_config(project, "select.budget=25%"))
    assert notes.ran() == ["select", "report"]
    assert "select.budget changed" in notes.why("select")
    kept = json.loads(RunFolder(config.run).thresholds.read_text())
    assert kept["tokens_kept"] <= kept["tokens_in"] * 0.25
    assert _run(config).ran() == ["select", "report"]
    assert _result(config) == first

    # another method: stages that are not read any more are no reason
    notes = _run(_config(project, "select.method=random"))
    assert notes.why("select").endswith("running (select.method changed)")
    assert _run(config).why("select").endswith("running (select.method changed)")
    assert _result(config) == first

    # another rubric: what depends on it, and says so
    rubric = project / "text_group_A_dim_anchors.jsonl"
    rubric.write_text(rubric.read_text().replace('"cluster_size": 91', '"cluster_size": 92'))
    notes = _run(config)
    assert notes.ran() == ["discover", "label", "distill", "score", "reliability", "select", "report"]
    assert "discover.rubrics.text_group_A changed" in notes.why("discover")
    assert "discover gave another output" in notes.why("label")

    # an output that somebody removed is made again; what does not depend on it is left
    RunFolder(config.run).report.unlink()
    assert _run(config).ran() == ["report"]


def test_a_source_that_is_taken_out_is_in_nothing_any_more(done: Path) -> None:
    lines = (done / "mira.yaml").read_text().splitlines()
    kept = [line.replace(", examples]", "]") for line in lines if "name: examples" not in line]
    (done / "mira.yaml").write_text("\n".join(kept))
    for alone, words in (("score", "other records .*source examples"), ("report", "'examples' is in one of the two")):
        with pytest.raises(RunError, match=words):
            run_stages(_config(done), [alone], force=True)
    with pytest.raises(RunError, match="'examples' is in one of the two"):
        run_extra(load_config(done / "mira.yaml"), evaluate, Quiet())
    notes = _run(_config(done))
    assert notes.ran()[:2] == ["index", "group"]
    run = RunFolder(done / "run")
    assert list(json.loads(run.thresholds.read_text())["sources"]) == ["api_reference", "release_notes"]
    assert not run.selection("examples").exists()
    assert not run.selected("examples").exists()


def test_conservation_and_kept_bytes(done: Path) -> None:
    project, config = done, _config(done)
    path = project / "examples.jsonl"
    good = path.read_bytes()
    first = json.loads(good.splitlines()[0])
    bad = [b"{broken", b'{"id": "x"}', b'{"text": "  "}', json.dumps(first).encode(), b'{"text": "\xff"}', b"[1]"]
    path.write_bytes(good + b"\n".join(bad) + b"\n")
    _run(config)
    counts = json.loads(RunFolder(config.run).thresholds.read_text())["sources"]
    for source, c in counts.items():
        lines = len([x for x in (project / f"{source}.jsonl").read_bytes().splitlines() if x.strip()])
        assert c["rows"] == lines == c["kept"] + c["dropped"] + c["unscored"] + c["rejected"], source
    assert counts["examples"]["rejected"] == 6
    originals = set(good.splitlines())
    for kept in RunFolder(config.run).selected("examples").rglob("*.jsonl"):
        for line in kept.read_bytes().splitlines():
            record = json.loads(line)
            provenance = record.pop("mira")
            assert provenance["method"] == "mira"
            assert json.dumps(record, ensure_ascii=False).encode() in originals


def test_flagged_duplicates_are_dropped_and_counted(done: Path) -> None:
    path = done / "examples.jsonl"
    copy = json.loads(path.read_text().splitlines()[0]) | {"id": "copy", "source": "examples"}
    path.write_text(path.read_text() + json.dumps(copy) + "\n")
    notes = _run(_config(done, "flags.duplicates=drop"))
    assert "flag" in notes.ran()
    counts = json.loads(RunFolder(done / "run").thresholds.read_text())["sources"]["examples"]
    assert counts["reasons"]["flagged:duplicate"] == 1
    assert counts["rows"] == counts["kept"] + counts["dropped"] + counts["unscored"] + counts["rejected"]
    assert counts["unscored"] == 0
    (done / "benchmark.txt").write_text(json.loads(path.read_text().splitlines()[1])["text"])
    benchmark = f"flags.benchmarks=[{{name: b, path: {done}/benchmark.txt}}]"
    _run(_config(done, "flags.duplicates=drop", benchmark))
    notes = _run(_config(done, "flags.duplicates=drop", "flags.contaminated=drop", benchmark))
    assert "flags.contaminated changed" in notes.why("select"), "flags are as before, what is dropped is not"
    counts = json.loads(RunFolder(done / "run").thresholds.read_text())["sources"]["examples"]
    assert counts["reasons"]["flagged:contaminated"] >= 1
    assert "flag" not in _run(_config(done)).ran()


def test_a_method_without_a_teacher_needs_none(done: Path) -> None:
    config = _config(done, "run=random/run", "select.method=random", "teacher.replies=''", "select.scope=source")
    assert _run(config).ran() == ["index", "select", "report"]
    counts = json.loads(RunFolder(config.run).thresholds.read_text())
    assert 0.48 < counts["tokens_kept"] / counts["tokens_in"] <= 0.5
    overrides = ["run=random/run", "select.method=random", "teacher.replies=''", "select.scope=source"]
    for verb, problem in (
        (evaluate, r"no labels and no student in this run.*\n.*compare CONFIG --methods random,ppl"),
        (compare_group_students, "there is no student in this run"),
    ):
        with pytest.raises(RunError, match=problem):
            run_extra(load_config(done / "mira.yaml", overrides), verb, Quiet())


def test_a_student_to_be_tuned_elsewhere_is_not_taken_for_the_encoder(done: Path) -> None:
    config = _config(done, "distill.student=sft", "distill.sft.where=job")
    for _ in range(2):
        with pytest.raises(RunError, match="to be tuned on a GPU machine"):
            run_stages(config)
    job = RunFolder(config.run).job("text_group_A") / "train.jsonl"
    assert "as a library of poems" not in job.read_text()
    with pytest.raises(RunError, match="to be tuned on a GPU machine"):
        run_stages(_config(done, "distill.student=sft", "distill.sft.where=job", "discover.corpus=a library of poems"))
    assert "as a library of poems" in job.read_text(), "labels are the same, the prompt is not"
    assert not RunFolder(config.run).student("text_group_A").exists()
    assert "distill" in _run(_config(done)).ran()


def test_shards_and_workers_do_not_matter(done: Path) -> None:
    run = RunFolder(_config(done).run)

    def selection(run: RunFolder) -> tuple[list[tuple[str, bool, float]], dict[str, object]]:
        rows = duckdb.sql(f"SELECT id, kept, quality FROM '{run.path}/selection/*/*.parquet' ORDER BY ALL").fetchall()
        return rows, json.loads(run.thresholds.read_text())

    other = _config(done, "run=other", "shard_bytes=50000", "score.workers=2")
    _run(other)
    assert selection(run) == selection(RunFolder(other.run))
    assert len(list(run.path.glob("scores/*/*.parquet"))) < len(list(other.run.glob("scores/*/*.parquet")))


def test_ray_gives_the_same_bytes(done: Path) -> None:
    ray = pytest.importorskip("ray")
    other = _config(done, "run=other", "score.engine=ray", "score.workers=2")
    try:
        _run(other)
    finally:
        ray.shutdown()
    found = [
        {
            p.relative_to(run): p.read_bytes()
            for name in ("scores", "selection", "selected")
            for p in (run / name).glob("*/*")
        }
        | {Path("thresholds"): RunFolder(run).thresholds.read_bytes()}
        for run in (_config(done).run, other.run)
    ]
    assert found[0] == found[1]
    assert len(found[0]) > 6


def test_a_new_file_is_only_new_work(done: Path) -> None:
    project = done
    (project / "api_reference").mkdir()
    (project / "api_reference.jsonl").rename(project / "api_reference" / "a.jsonl")
    text = (project / "mira.yaml").read_text().replace("path: api_reference.jsonl", "path: api_reference/*.jsonl")
    (project / "mira.yaml").write_text(text)
    config = _config(project)
    _run(config)
    run = RunFolder(config.run)
    before = {p: p.stat().st_mtime_ns for p in run.scores("api_reference").glob("*")}
    (project / "api_reference" / "b.jsonl").write_text(
        json.dumps({"text": "A new page of the reference. " * 20}) + "\n"
    )
    assert "score" in _run(config).ran()
    after = {p: p.stat().st_mtime_ns for p in run.scores("api_reference").glob("*")}
    assert {p: after[p] for p in before} == before
    assert len(after) == len(before) + 1


def test_kill_9_anywhere_then_rerun(done: Path) -> None:
    expected = _result(_config(done))
    other = shutil.copytree(done, done.parent / "killed", ignore=shutil.ignore_patterns("run"))
    killed = _config(other)
    command = [sys.executable, "-m", "mira", "run", str(other / "mira.yaml")]
    wait = random.Random(0)
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(wait.uniform(2, 6))
            os.kill(process.pid, signal.SIGKILL)
    _run(killed)
    assert _result(killed) == expected


def test_interrupt_says_how_to_go_on(project: Path) -> None:
    command = [sys.executable, "-m", "mira", "run", str(project / "mira.yaml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "group        running" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Run the same command again" in rest
    assert "Traceback" not in rest


def test_no_teacher_stops_before_anything_is_done(project: Path) -> None:
    text = (project / "mira.yaml").read_text()
    text = text.replace("  replies: teacher_replies.jsonl\n", "  failure_budget: 0\n")
    (project / "mira.yaml").write_text(text)
    config = _config(project)
    with pytest.raises(ConfigError) as caught:
        run_stages(config)
    for way in ("a live endpoint", "batch files", "recorded replies"):
        assert way in caught.value.hint
    assert not config.run.exists()


def test_replies_to_another_rubric_are_refused(project: Path) -> None:
    a, b = (project / f"text_group_{x}_dim_anchors.jsonl" for x in "AB")
    a.write_bytes(b.read_bytes())
    with pytest.raises(InputError, match="answer another rubric"):
        run_stages(_config(project))


def test_a_stage_alone_needs_the_earlier_ones(project: Path) -> None:
    with pytest.raises(RunError, match="has not run"):
        run_stages(_config(project), ["select"])


def test_a_stage_alone_tells_which_earlier_ones_are_not_up_to_date(done: Path) -> None:
    assert all("up to date" not in line for line in _run(_config(done, "select.budget=10%"), "select").lines)
    notes = _run(_config(done, "reliability.min_rho=0.9"), "select")
    told = [line for line in notes.lines if "not up to date" in line]
    assert told == ["reliability  taken as it is, but not up to date (reliability.min_rho changed): see mira run"]


def test_a_stage_that_there_is_not_is_told(project: Path) -> None:
    with pytest.raises(ConfigError, match="there is no stage 'selct'"):
        run_stages(_config(project), ["selct"])


def test_a_manifest_that_is_none_is_told(project: Path) -> None:
    config = _config(project)
    config.run.mkdir()
    RunFolder(config.run).manifest.write_text("[]")
    with pytest.raises(RunError, match="not a manifest"):
        stage_states(config)


def test_what_lies_in_hidden_folders_is_no_output(done: Path) -> None:
    aside = done / "run" / "students" / ".text_group_A.old"
    aside.mkdir()
    (aside / "bundle.json").write_text("{}")
    assert _run(_config(done)).ran() == []


def test_a_tokenizer_file_is_known_by_its_content(project: Path) -> None:
    path = project / "tokenizer.json"
    vocabulary = Tokenizer(models.WordLevel({"x": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokens = []
    for split in (pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)):
        vocabulary.pre_tokenizer = split
        vocabulary.save(str(path))
        tokenizer.cache_clear()
        config = _config(project, "tokenizer=tokenizer.json", "select.method=random", "select.scope=source")
        assert "index" in _run(config).ran()
        tokens.append(json.loads(RunFolder(config.run).thresholds.read_text())["budget_tokens"])
        assert _run(config).ran() == []
    assert tokens[0] != tokens[1]


def test_two_runs_in_one_folder_are_refused(project: Path) -> None:
    config = _config(project)

    class Nested(Quiet):
        def note(self, text: str) -> None:
            if "index        running" in text:
                with pytest.raises(RunError, match="another mira"):
                    run_stages(config)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages(config, log=Nested())


def test_a_released_scorer_needs_no_teacher_but_its_rubric(project: Path) -> None:
    config = _config(project)
    endpoint = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    raw = config.model_dump()
    raw |= {"teacher": {}, "distill": {"student": "endpoint", "endpoint": endpoint}}
    check_teacher(Config.model_validate(raw))
    raw["discover"]["rubrics"] = {}
    with pytest.raises(ConfigError, match="needs its rubric"):
        check_teacher(Config.model_validate(raw))
