"""The model of a head: a base model with one linear layer, what that layer reads, and LoRA around it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.config.settings import HeadSettings
from mira.distillation.head.probe import Probe
from mira.distillation.tuning import check_fits
from mira.errors import ConfigError, MiraError, install_hint
from mira.rubric.slots import slot_names

__all__ = [
    "add_lora",
    "batches",
    "has_bias",
    "last_layer",
    "load_model",
    "load_tokenizer",
    "outputs",
    "padded_batch",
    "require",
    "saved_folder",
    "start",
]

Array = npt.NDArray[np.float64]
Ids = Sequence[int]


def require(*names: str) -> None:
    """Check that the packages for tuning are there, and keep their own bars and notes off the terminal.

    Raises:
        MiraError: One is missing.
    """
    for name in names:
        try:
            __import__(name)
        except ImportError:
            raise MiraError(f"a head needs {name} here", install_hint("train")) from None
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_tokenizer(model: str) -> Any:
    """Load the tokenizer of a base model; it pads with the end of a text if it has no token for that.

    Raises:
        ConfigError: It cannot be loaded, or is not a fast one, which is saved as one tokenizer.json.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"distill.head.model: cannot load the tokenizer of {model}: {_first(error)}", _HINT) from None
    if not tokenizer.is_fast:
        raise ConfigError(f"distill.head.model: {model} has no fast tokenizer (tokenizer.json)", "Take another model.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(settings: HeadSettings, n_slots: int, pad: int, seed: int) -> Any:
    """Load the base model with a linear layer of one output per slot and one for `overall`.

    Raises:
        ConfigError: It cannot be loaded, or reads fewer tokens than `max_length`.
        MiraError: It does not fit this machine.
    """
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed  # noqa: PLC0415

    names = dict(enumerate([*slot_names(n_slots), "overall"]))
    # `problem_type` is not decoration: without it servers put a softmax over the slots.
    shape: dict[str, Any] = {
        "num_labels": len(names), "problem_type": "regression", "id2label": names,
        "label2id": {name: i for i, name in names.items()},
    }  # fmt: skip
    try:
        config = AutoConfig.from_pretrained(settings.model, trust_remote_code=False, **shape)
        config.pad_token_id = pad
        with torch.device("meta"):
            empty = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        check_fits(
            settings, "distill.head", _context(config), sum(p.numel() for p in empty.parameters()),
            longer="longer records are cut in the middle",
            hint="Set distill.head.lora_rank for adapters, or another model.",
        )  # fmt: skip
        set_seed(seed)
        return AutoModelForSequenceClassification.from_pretrained(
            settings.model, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"distill.head.model: cannot load {settings.model}: {_first(error)}", _HINT) from None


_HINT = "It is a folder with a Hugging Face model in safetensors, or a name on the hub."


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _context(config: Any) -> int | None:
    """Return how many tokens a base model reads; None if it says nothing."""
    context: int | None = getattr(config, "max_position_embeddings", None)
    if context and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        context -= config.pad_token_id + 1  # their positions start behind the padding's
    return context


def last_layer(model: Any) -> Any:
    """Return the linear layer with the outputs: the last one of that width."""
    import torch  # noqa: PLC0415

    n = model.config.num_labels
    found = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == n]
    if not found:
        raise ConfigError("distill.head.model: its classification model has no linear output layer", _HINT)
    return found[-1]


def has_bias(model: Any) -> bool:
    """Tell whether the output layer has a bias; those on causal LMs have none."""
    return last_layer(model).bias is not None


def start(model: Any, probe: Probe) -> None:
    """Set the output layer to a probe's weights."""
    import torch  # noqa: PLC0415

    layer = last_layer(model)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(probe.weights))
        if layer.bias is not None:
            layer.bias.copy_(torch.tensor(probe.bias))


def add_lora(model: Any, rank: int) -> Any:
    """Wrap a model in LoRA adapters on all its linear layers; the output layer is tuned in full."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=None
    )
    return get_peft_model(model, config)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of like length, the longest first, of at most `tokens` padded tokens each."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def outputs(model: Any, ids: Sequence[Ids], pad: int, tokens: int = 0) -> tuple[Array, Array]:
    """Run a model without gradients.

    Args:
        model: The model; in float32 on a CPU, under bfloat16 autocast on a GPU, where it is several times as fast.
        ids: Token ids of the records.
        pad: Id of the padding token.
        tokens: Padded tokens per batch; 0 runs every record alone, so that its values depend on nothing else.

    Returns:
        Raw outputs (n, targets), and what the output layer read (n, features).
    """
    import torch  # noqa: PLC0415

    model.eval()
    layer, device = last_layer(model), next(model.parameters()).device
    seen: list[Any] = []
    hook = layer.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    raw = np.zeros((len(ids), layer.out_features))
    features = np.zeros((len(ids), layer.in_features))
    try:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            for rows in batches([len(i) for i in ids], tokens):
                padded, mask = padded_batch([ids[i] for i in rows], pad)
                result = model(input_ids=padded.to(device), attention_mask=mask.to(device)).logits
                read = seen.pop()
                if read.ndim == 3:  # a causal LM's layer reads every token; the last one counts
                    read = read[torch.arange(len(rows)), mask.sum(dim=1).to(read.device) - 1]
                raw[rows] = result.float().cpu().numpy()
                features[rows] = read.float().cpu().numpy()
    finally:
        hook.remove()
    return raw, features


def padded_batch(ids: Sequence[Ids], pad: int) -> tuple[Any, Any]:
    """Return token ids (n, longest) padded on the right, and their attention mask."""
    import torch  # noqa: PLC0415

    width = max(map(len, ids))
    padded = torch.full((len(ids), width), pad, dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for row, own in enumerate(ids):
        padded[row, : len(own)] = torch.tensor(list(own), dtype=torch.long)
        mask[row, : len(own)] = 1
    return padded, mask


def saved_folder(folder: Path, model: Any, tokenizer: Any, max_length: int) -> None:
    """Write weights, config and tokenizer as any server takes them."""
    if getattr(model.config, "use_cache", None) is not None:
        model.config.use_cache = False
    model.save_pretrained(folder)
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():  # the weights' writer leaves them to their owner alone; servers run as others
        path.chmod(0o644)
