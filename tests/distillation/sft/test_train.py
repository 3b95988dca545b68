"""The whole road of a tuned student with a real, tiny model: train, bundle, serve, score over HTTP."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from mira.config.settings import EndpointSettings
from mira.distillation.bundle import pull, push, verify
from mira.distillation.sft.examples import examples, student_prompt
from mira.distillation.sft.student import SftStudent, check_prompt, served_settings, served_student
from mira.distillation.sft.train import _check_masks, tune
from mira.errors import ConfigError, InputError, JudgeError, MiraError, RunError
from mira.judging import prompt as prompts
from mira.judging.judge import JudgeTask
from mira.llm.journal.journal import Journal
from mira.progress import Quiet
from mira.run_folder.files import read_json, sha256_file, write_json
from support import tiny_lm
from support.sft_case import config, judgement, labels, lookup, records, rubric, tuning

tiny_lm.needs_training()
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

FOUND = records(24)
LABELS = labels(map(judgement, FOUND))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm") / "base-lm"
    chosen = config(folder, references=False, slot_subsets=0, slot_order="fixed")
    prompt = student_prompt(rubric(), tuning(chosen))
    items = examples(prompt, LABELS, lookup(FOUND), chosen.distill.sft)
    return tiny_lm.save(folder, [item.system + item.user + item.reply for item in items])


def settings(base, **changes):
    chosen = {"model": str(base), "max_length": 1200, "max_reply": 200, "references": False, "batch_size": 4}
    return config(base.parent, **(chosen | {"micro_batch": 4, "learning_rate": 1e-2} | changes))


def train(base, folder, log=None, table=LABELS, **changes):
    chosen = settings(base, **changes)
    return tune(
        tuning(chosen), rubric(), student_prompt(rubric(), tuning(chosen)), table, lookup(FOUND), folder, log or Quiet()
    )


@pytest.fixture(scope="module")
def student(base, tmp_path_factory):
    """Trained until its greedy replies parse."""
    folder = tmp_path_factory.mktemp("students") / "text_group_A"
    train(base, folder, epochs=20, slot_order="fixed", slot_subsets=0)
    return folder


def test_the_bundle_is_a_checkpoint_that_any_server_takes(student, tmp_path):
    facts = verify(student)
    assert not {p.suffix for p in student.rglob("*")} & {".bin", ".pt", ".pkl", ".py"}
    end = AutoTokenizer.from_pretrained(student).convert_tokens_to_ids("<|im_end|>")
    model_config, generation = read_json(student / "config.json"), read_json(student / "generation_config.json")
    assert model_config["use_cache"] is True
    assert model_config["eos_token_id"] == generation["eos_token_id"] == end
    assert AutoTokenizer.from_pretrained(student).eos_token == "<|im_end|>", "servers stop here without other settings"
    state = read_json(student / "trainer_state.json")
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert len(losses) == state["global_step"] == facts["training"]["steps"] == 120
    assert losses[-1] < 0.5 * losses[0]
    assert (facts["training"]["loss_first"], facts["training"]["loss_last"]) == (losses[0], losses[-1])
    assert facts["counts"]["examples"] == 24 and facts["counts"]["left_out"] == {}
    assert str(student.parent) not in (student / "bundle.json").read_text(), "no path of this machine"
    card = (student / "README.md").read_text()
    assert f"{losses[-1]:.4f} at last" in card and "| docs | 12 |" in card and facts["prompt"] in card
    assert (student / "system_prompt.txt").read_text() == SftStudent(student).prompt.system
    assert (student / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in student.parent.iterdir()) == ["text_group_A"], "nothing temporary is left"
    push(student, str(tmp_path / "there"))
    assert pull(str(tmp_path / "there"), tmp_path / "back")
    replies = [SftStudent(folder).replies(["Hello"]) for folder in (student, tmp_path / "back")]
    assert replies[0] == replies[1]


def test_thinking_is_off_whatever_a_request_says(student):
    tokenizer = AutoTokenizer.from_pretrained(student)
    message = [{"role": "user", "content": "x"}]
    for asked in ({}, {"enable_thinking": True}):
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, **asked)
        assert text.endswith("<|im_start|>assistant\n")


def test_the_mask_check_finds_what_the_loss_must_not_count(base):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from mira.distillation.sft.chat import Chat

    chat = Chat.load(base)
    prompt, reply = chat.prompt_ids("s", "u"), chat.reply_ids("[A1] x: 5/10")
    row = {"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply}
    collator = DataCollatorForLanguageModeling(pad_token_id=chat.tokenizer.pad_token_id)

    def check(row, rows=1):
        trainer = SimpleNamespace(train_dataset=[row], data_collator=collator)
        lengths = np.array([len(prompt) + len(reply)] * rows)
        _check_masks(trainer, SimpleNamespace(prompts=np.array([len(prompt)] * rows), lengths=lengths), chat)

    check(row)
    wrong = {
        "prompt counted": row | {"labels": row["input_ids"]},
        "reply not counted": row | {"labels": [-100] * (len(prompt) + 1) + reply[1:]},
        "cut": {name: ids[:-3] for name, ids in row.items()},
        "no end": {"input_ids": [*row["input_ids"][:-1], 5], "labels": [*row["labels"][:-1], 5]},
    }
    for bad in wrong.values():
        with pytest.raises(MiraError, match="loss does not count the reply"):
            check(bad)
    with pytest.raises(MiraError, match="took 1 of 2 examples"):
        check(row, rows=2)


def test_labels_that_do_not_fit_are_counted(base, tmp_path):
    found = [
        *FOUND[:10],
        judgement(FOUND[10], rationales=("long reason " * 150,) * 4),
        judgement(FOUND[11], overall=None),
    ]
    table = labels([*map(judgement, FOUND[:10]), *found[10:]])
    facts = train(base, tmp_path / "s", table=table, epochs=1)
    assert facts["counts"]["left_out"] == {"docs": {"too_long": 1}, "notes": {"no_overall": 1}}
    assert facts["counts"]["examples"] == 10
    assert "| docs | too_long | 1 |" in (tmp_path / "s" / "README.md").read_text()
    with pytest.raises(RunError, match="12 too_long"):
        train(base, tmp_path / "t", table=labels(map(judgement, FOUND[:12])), max_length=300, max_reply=100, epochs=1)
    with pytest.raises(RunError, match="12 too_long"):  # when served, these prompts would be cut
        train(base, tmp_path / "t", table=labels(map(judgement, FOUND[:12])), max_reply=900, epochs=1)
    assert not (tmp_path / "t").exists()


class Interrupting(Quiet):
    """Stops the run from outside after some steps, as Ctrl-C would."""

    def __init__(self, steps):
        self.left = steps

    @contextmanager
    def task(self, description, total=None):
        def advance(amount=1):
            if description.startswith("tuning"):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt

        yield SimpleNamespace(advance=advance, detail=lambda text: None)


def test_an_interrupted_run_goes_on_and_ends_the_same(base, tmp_path):
    options = {"epochs": 2, "micro_batch": 2, "checkpoint_steps": 3}
    train(base, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path / "broken", Interrupting(8), **options)
    assert not (tmp_path / "broken").exists()
    steps = []
    log = Interrupting(10**9)
    train(base, tmp_path / "broken", log, **options)
    steps.append(10**9 - log.left)
    assert steps == [6], "6 of 12 steps were in the last checkpoint"
    weights = [sha256_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_adapters_are_merged_so_that_any_server_takes_them(base, tmp_path):
    facts = train(base, tmp_path / "s", epochs=1, lora_rank=4)
    assert 0 < facts["training"]["trained_parameters"] < facts["training"]["parameters"] / 2
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "s").state_dict()
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert tuned.keys() == before.keys()
    assert any(not torch.equal(tuned[name], before[name]) for name in before)
    assert not list((tmp_path / "s").glob("adapter*"))


def test_what_cannot_be_tuned_is_told_before_it_starts(base, tmp_path):
    with pytest.raises(ConfigError, match="reads 2,048 tokens"):
        train(base, tmp_path / "s", max_length=4096)
    with pytest.raises(ConfigError, match="micro_batch does not divide"):
        train(base, tmp_path / "s", micro_batch=3)
    with pytest.raises(ConfigError, match="cannot load"):
        train(tmp_path / "nothing", tmp_path / "s")
    plain = tmp_path / "plain"
    AutoTokenizer.from_pretrained(base).save_pretrained(plain)
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        train(plain, tmp_path / "s")
    with pytest.raises(ConfigError, match="cannot load"):
        train(plain, tmp_path / "s", chat_template=str(_template(tmp_path, tiny_lm.TEMPLATE)))
    endless = "{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}"
    with pytest.raises(ConfigError, match="ends a reply in no special token"):
        train(base, tmp_path / "s", chat_template=str(_template(tmp_path, endless)))


def _template(folder, text):
    (folder / "chat.jinja").write_text(text)
    return folder / "chat.jinja"


def test_pickled_base_weights_are_not_loaded(base, tmp_path):
    pickled = tmp_path / "pickled"
    AutoTokenizer.from_pretrained(base).save_pretrained(pickled)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.config.save_pretrained(pickled)
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot load"):
        train(pickled, tmp_path / "s")


def test_another_prompt_than_the_trained_one_is_refused(student, tmp_path):
    endpoint = EndpointSettings(base_url="http://127.0.0.1:9/v1", model="x")
    chosen = served_settings(student, endpoint)
    assert (chosen.max_model_len, chosen.max_tokens, chosen.slot_order) == (1200, 200, "fixed")
    assert chosen.identity.startswith("sft:")
    with pytest.raises(JudgeError, match="slot_order"):
        served_settings(student, EndpointSettings(base_url="http://127.0.0.1:9/v1", model="x", slot_order="permuted"))
    check_prompt(student, SftStudent(student).prompt)
    with pytest.raises(InputError, match="trained with prompt"):
        check_prompt(student, prompts.build_prompt(rubric()))
    pull(push(student, str(tmp_path / "there")), tmp_path / "other")
    lines = (tmp_path / "other" / "rubric.jsonl").read_text()
    (tmp_path / "other" / "rubric.jsonl").write_text(lines.replace('"Clarity"', '"Beauty"'))
    with pytest.raises(InputError, match="trained with prompt"):
        served_student(tmp_path / "other", endpoint, None)
    with pytest.raises(InputError, match="trained with prompt"):
        SftStudent(tmp_path / "other")
    write_json(tmp_path / "other" / "bundle.json", {"kind": "encoder"})
    with pytest.raises(InputError, match="expected 'sft'"):
        SftStudent(tmp_path / "other")


def test_a_checkpoint_from_a_job_becomes_the_same_kind_of_bundle(base, student, tmp_path):
    from mira.distillation.sft.train import _write_job_bundle

    chosen = settings(base, slot_order="fixed")
    job, output = tmp_path / "job", tmp_path / "output"
    _write_job_bundle(
        job / "bundle", tuning(chosen), rubric(), student_prompt(rubric(), tuning(chosen)), verify(student)["counts"]
    )
    checkpoint = output / "checkpoint-7"
    model = AutoModelForCausalLM.from_pretrained(student)
    model.config.use_cache = False
    model.config.eos_token_id = 0
    model.save_pretrained(checkpoint)
    AutoTokenizer.from_pretrained(base).save_pretrained(checkpoint)
    torch.save({}, checkpoint / "training_args.bin")
    log = [{"loss": 2.5, "global_step/max_steps": "1/7"}, {"loss": 0.5, "global_step/max_steps": "7/7"}, {"memory": 1}]
    (output / "logging.jsonl").write_bytes(b"\n".join(map(orjson.dumps, log)))
    adopted = tmp_path / "students" / "g"
    command = [sys.executable, "-m", "mira.distillation.adopt", job, checkpoint, adopted]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == str(adopted)
    facts = verify(adopted)
    assert (facts["training"]["steps"], facts["training"]["loss_last"]) == (7, 0.5)
    assert facts["training"]["parameters"] == verify(student)["training"]["parameters"]
    assert read_json(adopted / "config.json")["use_cache"] is True
    assert read_json(checkpoint / "config.json")["use_cache"] is False, "the checkpoint itself is left as it was"
    user = SftStudent(student).prompt.user(FOUND[0]).text
    assert SftStudent(adopted).replies([user]) == SftStudent(student).replies([user])
    done = subprocess.run([*command[:4], output, adopted], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "holds no safetensors" in done.stderr


@contextmanager
def transformers_serve(folder: Path, home: Path):
    """Serve a folder by a real OpenAI-compatible server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "hub").mkdir(parents=True)  # without it the server's list of models fails
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", str(folder)]
    with (home / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, (home / "log").read_text()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def test_served_and_in_process_give_the_same_judgements(student, tmp_path):
    pytest.importorskip("fastapi", reason="serving needs: pip install 'transformers[serving]'")
    local = SftStudent(student)
    tasks = [JudgeTask(record) for record in FOUND]
    here = {j.id: j for j in local.judge(tasks)}
    with transformers_serve(student, tmp_path / "home") as url, Journal(tmp_path / "journal") as journal:
        endpoint = EndpointSettings(base_url=url, model=str(student), temperature=0, top_p=1, max_concurrency=1)
        judge = served_student(student, endpoint, journal)
        there = {j.id: j for j in judge.judge(tasks)}
        assert judge.stats.tokens_in == sum(
            len(local.chat.prompt_ids(local.prompt.system, local.prompt.user(record).text)) for record in FOUND
        ), "the server reads the very tokens that the student was trained on"
    assert here.keys() == there.keys() == {record.id for record in FOUND}
    for id, judgement_here in here.items():
        for name in ("scores", "rationales", "missing", "overall", "recommendation", "domain_tag", "brief"):
            assert getattr(judgement_here, name) == getattr(there[id], name)
    parsed = sum(not j.missing for j in here.values())
    assert parsed >= 20, f"{parsed} of 24 replies are whole"
