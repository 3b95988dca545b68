"""Making a scorer bundle of a checkpoint that a training job wrote elsewhere.

python -m mira.distillation.adopt JOB_FOLDER CHECKPOINT STUDENT_FOLDER
"""

import math
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from mira.distillation.bundle import install, read_bundle, seal
from mira.distillation.model_card import write_card
from mira.distillation.sft.chat import Chat, require_train
from mira.distillation.sft.student import bundle_prompt
from mira.errors import InputError, MiraError
from mira.run_folder.files import read_json, write_bytes, write_json

__all__ = ["adopt"]

_KEPT = ("config.json", "generation_config.json", "model.safetensors.index.json")


def adopt(job: Path, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Make a bundle of a job's checkpoint: weights as they are, chat template and end of turn set, card and hashes.

    Args:
        job: The job's folder, as `mira distill` wrote it.
        checkpoint: A folder with a Hugging Face checkpoint in safetensors. What else is in it (optimizer states,
            pickled arguments) is left behind.
        folder: Where the bundle goes.

    Returns:
        The bundle's bundle.json.

    Raises:
        InputError: The job's files are damaged, or the checkpoint holds no safetensors.
        MiraError: transformers is not installed.
    """
    require_train()
    facts = read_bundle(job / "bundle", "sft")
    weights = sorted(checkpoint.glob("*.safetensors"))
    if not weights or not (checkpoint / "config.json").is_file():
        raise InputError(f"{checkpoint}: holds no safetensors with a config.json", "Point to the job's checkpoint.")
    rubric, prompt = bundle_prompt(job / "bundle")
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for path in (*weights, *(checkpoint / name for name in _KEPT if (checkpoint / name).is_file())):
        _link(path, staged / path.name)
    chat = Chat.load(checkpoint)
    chat.tokenizer.save_pretrained(staged)
    for name in ("config.json", "generation_config.json"):
        _stop_at(staged / name, chat)
    state = _state(checkpoint)
    facts["training"] = _training(state, weights)
    rubric.save(staged / "rubric.jsonl")
    write_bytes(staged / "system_prompt.txt", prompt.system.encode())
    write_json(staged / "trainer_state.json", state)
    write_json(staged / "bundle.json", facts)
    write_card(staged, rubric, prompt, facts, state)
    seal(staged)
    install(staged, folder)
    return facts


def _link(source: Path, target: Path) -> None:
    """Link the file, or copy it to another file system: weights are large."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _stop_at(path: Path, chat: Chat) -> None:
    """Set the end of a turn and the cache in a config; the file is replaced, for it may be linked."""
    value = read_json(path) if path.is_file() else {}
    ids = {"eos_token_id": chat.end, "pad_token_id": chat.tokenizer.pad_token_id}
    if path.name == "config.json":
        ids["use_cache"] = True
        if isinstance(value.get("text_config"), dict):
            value["text_config"] |= ids
    write_json(path, value | ids)


def _state(checkpoint: Path) -> dict[str, Any]:
    """Return a trainer_state.json: the trainer's own, or one made of ms-swift's logging.jsonl."""
    for folder in (checkpoint, checkpoint.parent):
        if (folder / "trainer_state.json").is_file():
            state: dict[str, Any] = read_json(folder / "trainer_state.json")
            return state
    history = list(_logged(checkpoint.parent / "logging.jsonl"))
    return {"global_step": history[-1]["step"] if history else 0, "log_history": history}


def _logged(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        entry = orjson.loads(line)
        if "loss" in entry:
            step = str(entry.get("global_step/max_steps", entry.get("iteration", 0))).split("/")[0]
            yield {"step": int(step), "loss": float(entry["loss"])}


def _training(state: dict[str, Any], weights: list[Path]) -> dict[str, Any]:
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    parameters = sum(map(_parameters, weights))
    return {
        "steps": state["global_step"],
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "parameters": parameters,
        "trained_parameters": parameters,
        "device": "a training job",
        "seconds": None,
        "seconds_with_data": None,
        "peak_bytes": None,
    }


def _parameters(path: Path) -> int:
    """Count the numbers in a safetensors file from its header: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = orjson.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print("usage: python -m mira.distillation.adopt JOB_FOLDER CHECKPOINT STUDENT_FOLDER", file=sys.stderr)
        return 2
    job, checkpoint, folder = map(Path, arguments)
    try:
        adopt(job, checkpoint, folder)
    except MiraError as error:
        print(error, file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
