"""Tuning with `transformers.Trainer`: masked loss, early stopping on within-source rho, checkpoints to resume from."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.config.settings import HeadSettings
from mira.distillation.encoder.agreement import agreement
from mira.distillation.head.model import add_lora, outputs, padded_batch, start
from mira.distillation.head.probe import Probe
from mira.distillation.tuning import keep_only_own_checkpoints
from mira.progress import Log, Task
from mira.run_folder.files import read_json

__all__ = ["Examples", "Trained", "tune"]

Array = npt.NDArray[np.float64]
_PREDICT_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Examples:
    """Records to learn from, or to validate on.

    Attributes:
        ids: Returns the token ids of some of them.
        fitted: Their labels on the fitted scale (n, targets); NaN = not in the loss.
        scores: The same on the teacher's scale.
        sources: Each one's source.
    """

    ids: Callable[[npt.NDArray[np.int64]], list[list[int]]]
    fitted: Array
    scores: Array
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return one example; its row stands behind its labels, because samplers may reorder."""
        (ids,) = self.ids(np.array([row]))
        return {"input_ids": ids, "labels": [*self.fitted[row], float(row)]}

    def rho(self, raw: Array) -> float:
        """Return the mean over slots of the rank correlation within sources. Ranks need no scale."""
        return agreement(raw[:, :-1], self.scores[:, :-1], self.sources)["rho_within"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A tuned model and how it came about.

    Attributes:
        model: The model, LoRA merged, in float32.
        state: The content of trainer_state.json.
        start_rho: Within-source rho of the validation part before tuning: the probe's.
        best_rho: The best one; the model is the one that had it.
        facts: Steps, losses, parameters, seconds and peak memory.
    """

    model: Any
    state: dict[str, Any]
    start_rho: float
    best_rho: float
    facts: dict[str, Any]


def tune(
    load: Callable[[], Any], probe: Probe, settings: HeadSettings, seed: int, train: Examples, validation: Examples,
    pad: int, output: Path, fingerprint: str, log: Log,
) -> Trained:  # fmt: skip
    """Tune a model; an interrupted run goes on from its last checkpoint.

    Args:
        load: Returns the base model.
        probe: What the output layer starts from.
        settings: How it is tuned.
        seed: Of dropout and the order of records.
        train: What is learnt from.
        validation: What decides when to stop, and which checkpoint is kept.
        pad: Id of the padding token.
        output: Folder of checkpoints.
        fingerprint: Hash of everything that the checkpoints follow from; others are dropped.
        log: Where progress goes.
    """
    import torch  # noqa: PLC0415
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer  # noqa: PLC0415
    from transformers.trainer_utils import get_last_checkpoint  # noqa: PLC0415

    keep_only_own_checkpoints(output, fingerprint)
    cuda = torch.cuda.is_available()
    model = load()
    start(model, probe)
    model.to("cuda" if cuda else "cpu")
    everything = np.arange(len(validation))
    start_rho = validation.rho(outputs(model, validation.ids(everything), pad, _PREDICT_TOKENS)[0])
    if settings.lora_rank:
        model = add_lora(model, settings.lora_rank)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    trainer = Trainer(
        model=model, args=_arguments(settings, seed, output), train_dataset=train, eval_dataset=validation,
        data_collator=_collator(pad), compute_loss_func=_loss(min(settings.batch_size, len(train))),
        compute_metrics=_metrics(validation), callbacks=[EarlyStoppingCallback(settings.patience)],
    )  # fmt: skip
    started = time.monotonic()
    with log.task("tuning the head") as progress:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_reporter(progress))
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output)))
    seconds = time.monotonic() - started
    trainer.save_state()
    state = read_json(output / "trainer_state.json")
    best = float(state["best_metric"] if state["best_metric"] is not None else -1.0)
    tuned = trainer.accelerator.unwrap_model(trainer.model)
    tuned = tuned.merge_and_unload() if settings.lora_rank else tuned
    if best < start_rho:  # tuning only made it worse: the probe on the frozen model is the student
        tuned = load()
        start(tuned, probe)
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts = {
        "steps": state["global_step"],
        "epochs": round(float(state["epoch"] or 0), 2),
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "parameters": sum(p.numel() for p in tuned.parameters()),
        "trained_parameters": trainable,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "seconds": round(seconds, 1),
        "peak_bytes": peak,
    }
    return Trained(tuned.float().cpu().eval(), state, start_rho, max(best, start_rho), facts)


def _arguments(settings: HeadSettings, seed: int, output: Path) -> Any:
    import torch  # noqa: PLC0415
    from transformers import TrainingArguments  # noqa: PLC0415

    cuda = torch.cuda.is_available()
    micro = min(settings.micro_batch, settings.batch_size)
    when = "steps" if settings.checkpoint_steps else "epoch"
    by_length: dict[str, Any] = (
        {"train_sampling_strategy": "group_by_length"}
        if "train_sampling_strategy" in {f.name for f in fields(TrainingArguments)}
        else {"group_by_length": True}  # its name in the first releases
    )
    return TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // micro,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup if settings.warmup < 1 else 0.999,
        weight_decay=settings.weight_decay,
        logging_strategy="steps",
        logging_steps=1,
        eval_strategy=when,
        save_strategy=when,
        eval_steps=settings.checkpoint_steps or None,
        save_steps=settings.checkpoint_steps or 500,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="rho_within",
        greater_is_better=True,
        bf16=cuda,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        **by_length,
    )


def _collator(pad: int) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
    import torch  # noqa: PLC0415

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        ids, mask = padded_batch([row["input_ids"] for row in rows], pad)
        labels = torch.tensor([row["labels"] for row in rows], dtype=torch.float32)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return collate


def _loss(batch_size: int) -> Callable[..., Any]:
    """Return the mean squared error over the labels that are there, as a share of a whole batch's loss."""
    import torch  # noqa: PLC0415

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        wanted = labels[:, :-1]
        known = torch.isfinite(wanted)
        off = torch.where(known, outputs.logits.float() - torch.nan_to_num(wanted), 0.0)
        return (off**2).sum() / known.sum().clamp(min=1) * (len(labels) / batch_size)

    return loss


def _metrics(validation: Examples) -> Callable[[Any], dict[str, float]]:
    def metrics(found: Any) -> dict[str, float]:
        raw = found.predictions[0] if isinstance(found.predictions, tuple) else found.predictions
        rows = found.label_ids[:, -1].astype(np.int64)
        ordered = np.empty_like(raw)
        ordered[rows] = raw
        return {"rho_within": validation.rho(ordered.astype(np.float64))}

    return metrics


def _reporter(progress: Task) -> Any:
    from transformers import TrainerCallback  # noqa: PLC0415

    class Reporter(TrainerCallback):  # type: ignore[misc]
        rho = ""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "eval_rho_within" in logs:
                self.rho = f", rho within sources {float(logs['eval_rho_within']):.3f}"
            if logs and "loss" in logs:
                progress.advance()
                progress.detail(f"step {state.global_step}/{state.max_steps}, loss {float(logs['loss']):.3f}{self.rho}")

    return Reporter()
