import os
import subprocess
from importlib.util import find_spec

import orjson
import pytest

from mira.config.settings import SftSettings
from mira.corpus import build_index
from mira.distillation.bundle import read_bundle
from mira.distillation.sft.examples import student_prompt
from mira.distillation.sft.jobs import JOB_MODEL, estimate, write_job, write_serve_scripts
from mira.distillation.sft.student import bundle_prompt
from mira.distillation.sft.train import distill_sft
from mira.errors import MiraError
from mira.progress import Quiet
from mira.run_folder.files import write_parquet
from mira.run_folder.paths import RunFolder
from support.sft_case import SOURCES, config, judgement, labels, lookup, records, rubric, tuning


def write(folder, found, **settings):
    chosen = config(folder, **settings)
    table = labels(map(judgement, found))
    prompt = student_prompt(rubric(), tuning(chosen))
    return write_job(folder / "job", prompt, table, lookup(found[:-1]), chosen.distill.sft, seed=3, log=Quiet())


def test_memory_and_time_are_the_published_ones():
    facts = estimate([3650] * 100_000, 1)
    assert facts["tokens"] == 365_000_000
    assert facts["hours"] == [0.8, 2.5]
    assert (facts["state_gb"], facts["state_gb_a_gpu"]) == (624, 78)
    assert facts["fits"] and facts["tensor_parallel"] == 1
    assert estimate([3650] * 100_000, 2)["hours"] == [1.6, 5.0]


@pytest.mark.parametrize(("longest", "split"), [(8_192, 1), (65_536, 4)])
def test_long_examples_are_split_over_gpus(longest, split):
    facts = estimate([1000, longest], 1)
    assert facts["tensor_parallel"] == split
    assert facts["fits"] and facts["activations_gb_a_gpu"] + 78 < 0.9 * 141
    assert not estimate([10**6], 1)["fits"]
    assert estimate([], 1)["hours"] == [0, 0]


def test_the_job_holds_every_label_or_says_why_not(tmp_path):
    found = records(10)
    facts = write(tmp_path, found, max_length=65536)
    rows = [orjson.loads(line) for line in (tmp_path / "job" / "train.jsonl").read_bytes().splitlines()]
    assert facts["examples"] == len(rows) == 9
    assert facts["counts"]["left_out"] == {found[-1].source: {"record_missing": 1}}
    assert [m["role"] for m in rows[0]["messages"]] == ["system", "user", "assistant"]
    assert len({row["messages"][0]["content"] for row in rows}) == 1
    for lengths in ({"max_length": 300, "max_reply": 100}, {"max_length": 4096, "max_reply": 3900}):
        none = write(tmp_path, found, **lengths)  # in all, or beside the reply when served
        assert none["counts"]["left_out"] == {"docs": {"too_long": 5}, "notes": {"record_missing": 1, "too_long": 4}}


@pytest.fixture
def tools(tmp_path):
    """Stand-ins on the PATH that print how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("megatron", "vllm"):
        (folder / name).write_text('#!/bin/sh\necho "$CUDA_VISIBLE_DEVICES:" "$@"\n')
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def run(script, environment, *arguments):
    done = subprocess.run(
        [script, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=20
    )
    return done.returncode, done.stdout.strip().splitlines()


def test_the_training_script_calls_megatron_with_the_settings(tmp_path, tools):
    facts = write(tmp_path, records(10), learning_rate=3e-6, batch_size=32, epochs=1.5)
    told = (tmp_path / "job" / "train.sh").read_text()
    assert f"{facts['tokens']:,} tokens a pass" in told and "78 GB a GPU, no offload" in told
    assert f"{60 * facts['hours'][0]:.2g} to {60 * facts['hours'][1]:.2g} minutes" in told
    code, (line,) = run(tmp_path / "job" / "train.sh", tools)
    words = line.split()
    assert code == 0
    assert words[:2] == ["0,1,2,3,4,5,6,7:", "sft"]
    flags = dict(zip(words[2::2], words[3::2], strict=True))
    assert flags["--lr"] == "3e-06" and flags["--global_batch_size"] == "32" and flags["--num_train_epochs"] == "1.5"
    assert flags["--tuner_type"] == "full" and flags["--packing"] == "false" and flags["--seed"] == "3"
    assert flags["--dataset"] == "train.jsonl" and flags["--max_length"] == "65536"


def test_replicas_get_one_gpu_and_one_port_each_and_the_card_gets_its_own_line(tmp_path, tools):
    write_serve_scripts(tmp_path, 65536)
    code, lines = run(tmp_path / "serve_replicas.sh", tools, "my student")
    assert code == 0
    assert sorted(line.split(":")[0] for line in lines) == [str(i) for i in range(8)]
    assert sorted(int(line.split()[-1]) for line in lines) == list(range(8000, 8008))
    for line in lines:
        assert "serve my student --served-model-name student --tensor-parallel-size 1" in line
        assert "--max-model-len 65536 --performance-mode throughput --language-model-only" in line
        assert "--enable-prefix-caching --generation-config vllm" in line
        assert "--trust-remote-code" not in line
    code, (line,) = run(tmp_path / "serve_card.sh", tools, "x")
    assert line.split(": ", 1)[1] == (
        "serve x --served-model-name student --tensor-parallel-size 8 --dtype bfloat16 --max-model-len 65536 "
        "--max-num-batched-tokens 131072 --gpu-memory-utilization 0.9 --trust-remote-code --port 8000"
    )
    assert run(tmp_path / "serve_card.sh", tools)[0] != 0


def test_defaults_are_within_what_the_job_can_do():
    assert estimate([SftSettings().max_length], 1)["fits"]


def test_the_stage_writes_the_job_of_a_run(tmp_path):
    found = records(12)
    chosen = config(tmp_path, where="job", references=False)
    for source in SOURCES:
        rows = [orjson.dumps({"id": r.id, "text": r.text}) for r in found if r.source == source]
        (tmp_path / f"{source}.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    run_folder = RunFolder(chosen.run)
    build_index(chosen, run_folder, Quiet())
    rubric().save(run_folder.rubric("text_group_A"))
    write_parquet(run_folder.labels("text_group_A"), labels(map(judgement, found), held_out={"id003"}))
    summary = distill_sft(tuning(chosen), chosen.corpus, run_folder, "text_group_A", Quiet())
    job = run_folder.job("text_group_A")
    assert summary["kind"] == "job"
    assert summary["job"]["counts"]["examples_by_source"] == {"docs": 6, "notes": 5}
    system = orjson.loads((job / "train.jsonl").read_bytes().splitlines()[0])["messages"][0]["content"]
    assert system == (job / "bundle" / "system_prompt.txt").read_text()
    assert "Good 1." not in system
    facts = read_bundle(job / "bundle", "sft")
    assert facts["base_model"] == JOB_MODEL and facts["settings"]["lora_rank"] == 0
    assert bundle_prompt(job / "bundle")[1].system == system
    before = {path: path.read_bytes() for path in job.rglob("*") if path.is_file()}
    distill_sft(tuning(chosen), chosen.corpus, run_folder, "text_group_A", Quiet())
    assert before == {path: path.read_bytes() for path in job.rglob("*") if path.is_file()}, "same in, same out"


@pytest.mark.skipif(find_spec("torch") is not None, reason="the packages for training are installed")
def test_without_the_packages_the_way_to_them_is_told(tmp_path):
    chosen = config(tmp_path)
    with pytest.raises(MiraError, match=r"pip install 'mira-select\[train\]'"):
        distill_sft(tuning(chosen), chosen.corpus, RunFolder(tmp_path), "text_group_A", Quiet())
