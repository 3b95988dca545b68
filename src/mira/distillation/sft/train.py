"""Tuning a causal LM into a student: labels in, a scorer bundle out that a server takes as it is.

The bundle is a Hugging Face checkpoint (safetensors, tokenizer, chat template with thinking off, `trainer_state.json`)
with mira's own files beside it: `bundle.json`, `rubric.jsonl`, `system_prompt.txt`, `loss.svg` and a model card.
"""

import resource
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from mira._version import __version__
from mira.config.settings import CorpusSettings, SftSettings
from mira.distillation.bundle import install, seal
from mira.distillation.model_card import write_card
from mira.distillation.sft.chat import Chat, require_train
from mira.distillation.sft.examples import Fetch, Tally, Tuning, examples, read_labels, run_records, student_prompt
from mira.distillation.sft.jobs import JOB_MODEL, write_job
from mira.distillation.sft.tokens import IGNORED, tokenize
from mira.distillation.tuning import check_fits, keep_only_own_checkpoints
from mira.errors import ConfigError, MiraError
from mira.judging.prompt import Prompt, records_of
from mira.progress import Log, Task
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, hash_json, read_json, write_bytes, write_json
from mira.run_folder.paths import RunFolder
from mira.tokens import tokenizer as load_tokenizer

__all__ = ["distill_sft", "tune"]

_CHECKED = 64


def distill_sft(tuning: Tuning, corpus: CorpusSettings, run: RunFolder, group: str, log: Log) -> dict[str, Any]:
    """Tune a group's student, or only write its job; the job's files are written in both cases.

    Args:
        tuning: What the student follows from.
        corpus: How the corpus is read.
        run: A run folder with the group's rubric and labels, and with indexed sources.
        group: The group.
        log: Where progress goes.

    Returns:
        The job's estimates; and where the student is tuned here, its `bundle.json`.

    Raises:
        MiraError: No label can be trained on, the base model cannot be used, or a package is missing.
    """
    settings = tuning.settings
    if settings.training == "here":
        require_train()
    rubric = Rubric.load(run.rubric(group), group)
    prompt, labels, records = student_prompt(rubric, tuning), read_labels(run, group), run_records(corpus, run)
    job = write_job(run.job(group), prompt, labels, records, settings, seed=tuning.seed, log=log)
    _write_job_bundle(run.job(group) / "bundle", tuning, rubric, prompt, job["counts"])
    if settings.training == "job":
        return {"kind": "job", "job": job}
    return tune(tuning, rubric, prompt, labels, records, run.student(group), log) | {"job": job}


def tune(
    tuning: Tuning, rubric: Rubric, prompt: Prompt, labels: pa.Table, records: Fetch, folder: Path, log: Log
) -> dict[str, Any]:  # fmt: skip
    """Tune a base model on labels and put the bundle in `folder`.

    What is unfinished lies in a hidden folder beside it; a run that was interrupted goes on from its last checkpoint
    if `distill.sft.checkpoint_steps` asks for some.

    Returns:
        The bundle's `bundle.json`.

    Raises:
        MiraError: See `distill_sft`.
    """
    require_train()
    settings = tuning.settings
    if settings.batch_size % settings.micro_batch:
        raise ConfigError("distill.sft.micro_batch does not divide batch_size", "Make batch_size a multiple of it.")
    work = folder.with_name(f".{folder.name}.sft")
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    chat = Chat.load(settings.model, _template(settings))
    chat.tokenizer.save_pretrained(work / "tokenizer")
    tokenizer = load_tokenizer(str(work / "tokenizer" / "tokenizer.json"))
    items = examples(prompt, labels, records, settings, seed=tuning.seed, tokenizer=tokenizer)
    data = tokenize(items, chat, settings, len(prompt.slots), work / "data.arrow", log, len(labels))
    trained = _train(settings, tuning.seed, chat, data, work, log)
    training = _training(trained, time.monotonic() - started)
    facts = _facts(tuning, rubric, prompt, data.counts()) | {"training": training}
    staged = work / "bundle"
    shutil.rmtree(staged, ignore_errors=True)
    _write_bundle(staged, trained, chat, rubric, prompt, facts)
    install(staged, folder)
    shutil.rmtree(work)
    return facts


@dataclass(frozen=True, slots=True)
class _Trained:
    model: Any
    state: dict[str, Any]
    seconds: float
    parameters: int
    trainable: int
    device: str
    peak_bytes: int


def _template(settings: SftSettings) -> str:
    if not settings.chat_template:
        return ""
    try:
        return Path(settings.chat_template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"distill.sft.chat_template: {settings.chat_template}: {error}") from None


def _load(settings: SftSettings) -> Any:
    """Load the base model, after checking that it fits this machine and reads `max_length` tokens."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    try:
        shape = AutoConfig.from_pretrained(settings.model, trust_remote_code=False)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(shape, trust_remote_code=False)
        check_fits(
            settings, "distill.sft", getattr(shape.get_text_config(), "max_position_embeddings", None),
            sum(p.numel() for p in empty.parameters()), longer="records that do not fit are left out and counted",
            hint="Set distill.sft.training=job for a Megatron job, lora_rank for adapters, or another model.",
        )  # fmt: skip
        return AutoModelForCausalLM.from_pretrained(
            settings.model, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"distill.sft.model: cannot load {settings.model}: {first}",
            "It is a folder with a Hugging Face model in safetensors, or a name on the hub.",
        ) from None


def _train(settings: SftSettings, seed: int, chat: Chat, data: Tally, work: Path, log: Log) -> _Trained:
    import torch  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from transformers import PrinterCallback  # noqa: PLC0415
    from transformers.trainer_utils import get_last_checkpoint  # noqa: PLC0415
    from trl import SFTTrainer  # noqa: PLC0415

    output = work / "trainer"
    keep_only_own_checkpoints(output, hash_json([settings.model_dump(), seed, hash_file(work / "data.arrow")]))
    model = _load(settings)
    _stop_at(model, chat)
    trainer = SFTTrainer(
        model=model, args=_arguments(settings, seed, output), train_dataset=Dataset.from_file(str(work / "data.arrow")),
        processing_class=chat.tokenizer, peft_config=_lora(settings),
    )  # fmt: skip
    _check_masks(trainer, data, chat)
    started = time.monotonic()
    with log.task("tuning the student") as progress:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_reporter(progress))
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output)))
    seconds = time.monotonic() - started
    trainer.save_state()
    cuda = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tuned = trainer.accelerator.unwrap_model(trainer.model)
    trainable = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    tuned = tuned.merge_and_unload() if settings.lora_rank else tuned
    return _Trained(
        model=tuned.to(torch.bfloat16) if cuda else tuned, state=read_json(output / "trainer_state.json"),
        seconds=seconds, parameters=sum(p.numel() for p in tuned.parameters()), trainable=trainable,
        device=torch.cuda.get_device_name() if cuda else "CPU", peak_bytes=peak,
    )  # fmt: skip


def _arguments(settings: SftSettings, seed: int, output: Path) -> Any:
    import torch  # noqa: PLC0415
    from trl import SFTConfig  # noqa: PLC0415

    cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(output),
        # The data is tokenized, masked and measured already: left to itself, the trainer cuts at 1,024 tokens.
        max_length=settings.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},
        packing=False,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch,
        activation_checkpointing=cuda,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup if settings.warmup < 1 else 0.999,
        weight_decay=settings.weight_decay,
        logging_steps=1,
        save_strategy="steps" if settings.checkpoint_steps else "no",
        save_steps=settings.checkpoint_steps or 500,
        save_total_limit=1,
        bf16=cuda,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
    )


def _lora(settings: SftSettings) -> Any:
    if not settings.lora_rank:
        return None
    from peft import LoraConfig  # noqa: PLC0415

    rank = settings.lora_rank
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _stop_at(model: Any, chat: Chat) -> None:
    """Make the end of a turn the only eos: in the config too, for servers that read no generation settings."""
    from transformers import GenerationConfig  # noqa: PLC0415

    ids = {"eos_token_id": chat.end, "pad_token_id": chat.tokenizer.pad_token_id}
    for config in (model.config, model.config.get_text_config()):
        for name, value in ids.items():
            setattr(config, name, value)
    model.generation_config = GenerationConfig(**ids, bos_token_id=model.config.get_text_config().bos_token_id)


def _check_masks(trainer: Any, data: Tally, chat: Chat) -> None:
    """Check on the batches that the trainer will see that the loss counts the whole reply and nothing else.

    Raises:
        MiraError: The training library cut, dropped or masked something.
    """
    rows = trainer.train_dataset
    if len(rows) != len(data.lengths):
        raise MiraError(f"the trainer took {len(rows):,} of {len(data.lengths):,} examples", _REPORT)
    for i in range(min(_CHECKED, len(rows))):
        batch = trainer.data_collator([rows[i]])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        n_prompt, length = int(data.prompts[i]), int(data.lengths[i])
        counted = [j for j, label in enumerate(labels) if label != IGNORED]
        right = counted == list(range(n_prompt, length)) and labels[n_prompt:length] == ids[n_prompt:length]
        if not right or len(ids) < length or labels[length - 1] != chat.end:
            raise MiraError(f"example {i}: the loss does not count the reply and nothing else", _REPORT)


_REPORT = "This is a change in the training library; use the versions that mira-select[train] was tested with."


def _reporter(progress: Task) -> Any:
    from transformers import TrainerCallback  # noqa: PLC0415

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                progress.advance()
                progress.detail(f"step {state.global_step}/{state.max_steps}, loss {float(logs['loss']):.3f}")

    return Reporter()


def _facts(tuning: Tuning, rubric: Rubric, prompt: Prompt, counts: dict[str, Any]) -> dict[str, Any]:
    settings = tuning.settings
    return {
        "kind": "sft",
        "mira": __version__,
        "group": rubric.group,
        "rubric": rubric.hash,
        "prompt": prompt.hash,
        "prompt_settings": {
            "corpus": tuning.discover.corpus,
            "records": records_of(prompt.family, tuning.discover.records),
            "n_referenced": rubric.n_referenced if settings.references else 0,
            "slot_order": settings.slot_order,
        },
        "base_model": Path(settings.model).name if Path(settings.model).exists() else settings.model,
        "max_length": settings.max_length,
        "max_reply": settings.max_reply,
        "settings": settings.model_dump(mode="json", exclude={"model", "training", "chat_template"}),
        "seed": tuning.seed,
        "counts": counts,
    }


def _training(trained: _Trained, seconds: float) -> dict[str, Any]:
    losses = [entry["loss"] for entry in trained.state["log_history"] if "loss" in entry]
    return {
        "steps": trained.state["global_step"],
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "parameters": trained.parameters,
        "trained_parameters": trained.trainable,
        "device": trained.device,
        "seconds": round(trained.seconds, 1),
        "seconds_with_data": round(seconds, 1),
        "peak_bytes": trained.peak_bytes,
    }


def _write_job_bundle(folder: Path, tuning: Tuning, rubric: Rubric, prompt: Prompt, counts: dict[str, Any]) -> None:
    """Write what makes a bundle of the job's checkpoint (see `adopt`)."""
    job = tuning.settings.model_copy(update={"model": JOB_MODEL, "lora_rank": 0, "micro_batch": 1})
    rubric.save(folder / "rubric.jsonl")
    write_bytes(folder / "system_prompt.txt", prompt.system.encode())
    write_json(folder / "bundle.json", _facts(replace(tuning, settings=job), rubric, prompt, counts))


def _write_bundle(
    folder: Path, trained: _Trained, chat: Chat, rubric: Rubric, prompt: Prompt, facts: dict[str, Any]
) -> None:
    trained.model.config.use_cache = True  # checkpointing turns it off, and a server would then decode without a cache
    trained.model.save_pretrained(folder)
    chat.tokenizer.save_pretrained(folder)
    rubric.save(folder / "rubric.jsonl")
    write_bytes(folder / "system_prompt.txt", prompt.system.encode())
    write_json(folder / "trainer_state.json", trained.state)
    write_json(folder / "bundle.json", facts)
    write_card(folder, rubric, prompt, facts, trained.state)
    seal(folder)
    for path in folder.iterdir():  # the weights' writer leaves them to their owner alone; servers run as others
        path.chmod(0o644)
