"""Files for GPU machines: a Megatron job that tunes Qwen3.5-35B-A3B, and scripts that serve a student by vLLM."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from mira.config.settings import SftSettings
from mira.distillation.model_card import render
from mira.distillation.sft.examples import Example, Fetch, LeftOut, Tally, examples
from mira.judging.fence import CHAT_TOKENS
from mira.judging.prompt import Prompt
from mira.progress import Log
from mira.run_folder.files import atomic, write_bytes, write_json
from mira.tokens import tokenizer as load_tokenizer

__all__ = ["JOB_MODEL", "estimate", "write_job", "write_serve_scripts"]

JOB_MODEL = "Qwen/Qwen3.5-35B-A3B-Base"

_GPUS, _GPU_GB, _USABLE = 8, 141, 0.9  # H200; a tenth stays free for communication buffers and fragmentation (ours)
_STATE_GB = 624  # 34.7B parameters at 18 bytes: bf16 weight, float32 gradient, master weight and two moments
_HIDDEN, _LAYERS, _VOCABULARY = 2048, 40, 248_320
_HOURS = (0.8, 2.5)
_TIMED_TOKENS = 365e6


def write_job(
    folder: Path, prompt: Prompt, labels: pa.Table, records: Fetch, settings: SftSettings, *, seed: int, log: Log
) -> dict[str, Any]:
    """Write a full-parameter job for ms-swift's Megatron on eight H200: data, arguments, script, estimates.

    Args:
        folder: Where the job goes: train.jsonl (chat messages), arguments.txt, train.sh, estimate.json, and the
            scripts of `write_serve_scripts`.
        prompt: The student's prompt.
        labels: Labels of the training split.
        records: Where the labelled records come from.
        settings: Epochs, learning rate, batch and length.
        seed: Seed of the slot subsets and of the training.
        log: Where progress goes.

    Returns:
        The estimates of `estimate`, and as "counts" what became of the labels. Lengths are measured with
        Qwen3's tokenizer, which makes slightly more tokens than Qwen3.5's.
    """
    done = Tally()
    with atomic(folder / "train.jsonl") as temporary, temporary.open("wb") as file:
        for item, n_prompt, n_reply in _measured(prompt, labels, records, settings, seed):
            done.add(item, n_prompt, n_reply, len(prompt.slots))
            if isinstance(item, Example):
                file.write(orjson.dumps({"messages": item.messages()}) + b"\n")
    facts = estimate(done.lengths, settings.epochs) | {"counts": done.counts()}
    write_json(folder / "estimate.json", facts)
    write_bytes(folder / "arguments.txt", "".join(f"{a}\n" for a in _arguments(settings, facts, seed)).encode())
    _write_script(folder / "train.sh", render("train.sh.j2", facts=facts, span=_span(facts["hours"]), model=JOB_MODEL))
    write_serve_scripts(folder, settings.max_length)
    log.note(f"  job for {_GPUS} H200: {facts['examples']:,} examples, estimated {_span(facts['hours'])}: {folder}")
    return facts


def _measured(
    prompt: Prompt, labels: pa.Table, records: Fetch, settings: SftSettings, seed: int
) -> Iterator[tuple[Example | LeftOut, int, int]]:
    tokenizer = load_tokenizer("qwen3")
    system = prompt.system_tokens(tokenizer) + CHAT_TOKENS
    for item in examples(prompt, labels, records, settings, seed=seed, tokenizer=tokenizer):
        if isinstance(item, LeftOut):
            yield item, 0, 0
            continue
        n_user, n_reply = tokenizer.count([item.user, item.reply])
        room = settings.max_length - settings.max_reply  # what the prompt has when the student is served
        fits = system + n_user <= room and system + n_user + n_reply <= settings.max_length
        yield (item if fits else item.left_out("too_long")), system + n_user, n_reply


def estimate(lengths: list[int], epochs: float) -> dict[str, Any]:
    """Estimate memory and time of the job.

    State is 18 bytes a parameter, spread evenly. Activations are those of the longest example with every layer
    recomputed: one hidden vector a token and layer in bf16, and the logits in bf16 and float32; tensor parallelism is
    the smallest that fits them beside the state. Time is scaled linearly from 0.8 to 2.5 hours for 365M tokens; a
    start of some minutes is not in it.

    Args:
        lengths: Tokens of each example.
        epochs: Passes over them.

    Returns:
        examples, tokens (one pass), tokens_trained, longest, state_gb, state_gb_a_gpu, activations_gb_a_gpu,
        tensor_parallel, fits, hours (least, most).
    """
    longest, tokens = max(lengths, default=0), sum(lengths)
    activations = longest * (2 * _HIDDEN * _LAYERS + 6 * _VOCABULARY) / 1e9
    state = _STATE_GB / _GPUS
    room = _USABLE * _GPU_GB - state
    split = next((n for n in (1, 2, 4) if activations / n <= room), _GPUS)
    trained = tokens * epochs
    return {
        "examples": len(lengths),
        "tokens": tokens,
        "tokens_trained": round(trained),
        "longest": longest,
        "state_gb": _STATE_GB,
        "state_gb_a_gpu": state,
        "activations_gb_a_gpu": round(activations / split, 1),
        "tensor_parallel": split,
        "fits": activations / split <= room,
        "hours": [round(h * trained / _TIMED_TOKENS, 3) for h in _HOURS],
    }


def _arguments(settings: SftSettings, facts: dict[str, Any], seed: int) -> list[str]:
    values: dict[str, Any] = {
        "model": JOB_MODEL,
        "use_hf": "true",
        "dataset": "train.jsonl",
        "split_dataset_ratio": 0,
        "save_safetensors": "true",
        "output_dir": "output",
        "add_version": "false",
        "tuner_type": "full",
        "freeze_llm": "false",
        "freeze_vit": "true",
        "freeze_aligner": "true",
        "finetune": "true",
        "enable_thinking": "false",
        "add_non_thinking_prefix": "true",
        "loss_scale": "ignore_empty_think",
        "max_length": settings.max_length,
        "truncation_strategy": "delete",
        "strict": "true",
        "packing": "false",
        "padding_free": "false",
        "num_train_epochs": f"{settings.epochs:g}",
        "micro_batch_size": 1,
        "global_batch_size": settings.batch_size,
        "lr": settings.learning_rate,
        "min_lr": 0,
        "lr_warmup_fraction": settings.warmup,
        "weight_decay": settings.weight_decay,
        "seed": seed,
        "tensor_model_parallel_size": facts["tensor_parallel"],
        "sequence_parallel": "true" if facts["tensor_parallel"] > 1 else "false",
        "expert_model_parallel_size": _GPUS,
        "expert_tensor_parallel_size": 1,
        "moe_permute_fusion": "true",
        "moe_grouped_gemm": "true",
        "moe_shared_expert_overlap": "true",
        "moe_aux_loss_coeff": 1e-6,
        "recompute_granularity": "full",
        "recompute_method": "uniform",
        "recompute_num_layers": 1,
        "cross_entropy_loss_fusion": "true",
        "attention_backend": "flash",
        "group_by_length": "true",
        "dataset_num_proc": 8,
        "dataloader_num_workers": 8,
        "logging_steps": 1,
        "no_save_optim": "true",
        "no_save_rng": "true",
    }
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def write_serve_scripts(folder: Path, max_length: int) -> None:
    """Write serve_replicas.sh (eight independent replicas) and serve_card.sh (the model card's own line).

    Args:
        folder: Where they go.
        max_length: Context of the served student, in tokens.
    """
    for name in ("serve_replicas.sh", "serve_card.sh"):
        _write_script(folder / name, render(f"{name}.j2", max_length=max_length))


def _span(hours: Sequence[float]) -> str:
    """Return "0.8 to 2.5 hours", or minutes where that is short."""
    least, most = hours
    return f"{least:.2g} to {most:.2g} hours" if most >= 1 else f"{60 * least:.2g} to {60 * most:.2g} minutes"


def _write_script(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o755)
