"""Bits per byte under a causal LM in a local folder, by transformers (extra `[train]`).

One text at a time, on the GPU if there is one; a served model (`select.ppl.endpoint`) is many times faster. As
there, the first token has no probability unless the tokenizer puts a start token before it, and of a text that is
longer than the model's context, or than 8,192 tokens (ours), the beginning is measured by its own bytes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from mira.arrays import Floats
from mira.errors import ConfigError, InputError, install_hint

__all__ = ["causal_lm"]

_CONTEXT = 8192
_PIECE = 512  # tokens whose logits are in memory at once


def causal_lm(folder: Path) -> Callable[[Sequence[str]], Floats]:
    """Load a model; return what measures texts in bits per byte, NaN for a text of a single token.

    Raises:
        ConfigError: torch or transformers is not installed.
        InputError: The folder holds no causal LM with safetensors and a tokenizer.
    """
    try:
        import torch  # noqa: PLC0415 - optional
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - optional
    except ImportError:
        raise ConfigError(
            f"select.ppl.model: {folder} needs torch and transformers",
            f"Install them with: {install_hint('train')}; or serve the model, see select.ppl.endpoint.",
        ) from None
    safe = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **safe)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **safe)
    except (OSError, ValueError, KeyError) as error:
        words = " ".join(str(error).split())[:200]
        raise InputError(
            f"select.ppl.model: {folder}: not a causal LM: {words}", "Give its checkpoint folder."
        ) from None
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    context = min(getattr(model.config, "max_position_embeddings", None) or _CONTEXT, _CONTEXT)
    turn = Lock()

    def measure(texts: Sequence[str]) -> Floats:
        with turn:  # shards run in threads, and torch has threads of its own
            return np.array([_bits_per_byte(model, tokenizer, text, context) for text in texts], dtype=np.float64)

    return measure


def _bits_per_byte(model: Any, tokenizer: Any, text: str, context: int) -> float:
    text = text.encode("utf-8", "replace").decode()
    ids = tokenizer(text)["input_ids"]
    if len(ids) > context:
        ids = ids[:context]
        text = tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")
    if len(ids) < 2 or not text:
        return float("nan")
    return _nats(model, ids) / float(np.log(2)) / len(text.encode())


def _nats(model: Any, ids: Sequence[int]) -> float:
    import torch  # noqa: PLC0415 - an extra

    every, past, nats = torch.tensor([ids], device=model.device), None, 0.0
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, _PIECE):
            piece = every[:, start : start + _PIECE]
            output = model(input_ids=piece, past_key_values=past, use_cache=True)
            past, targets = output.past_key_values, every[0, start + 1 : start + 1 + piece.shape[1]]
            logits = output.logits[0, : len(targets)].float()
            nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
    return nats
