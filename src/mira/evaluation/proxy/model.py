"""The proxy's language model: a small Llama over bytes, trained from scratch. Needs torch and transformers.

Tokens are the 256 bytes and a separator before every text, so bits per byte are exact and no tokenizer is fetched.
Architecture, sizes and the training recipe are ours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.errors import MiraError, install_hint
from mira.stats import generator

__all__ = [
    "SEPARATOR",
    "SIZES",
    "Size",
    "Tokens",
    "block_order",
    "device",
    "require_torch",
    "train_and_measure",
    "windows",
]

Tokens = npt.NDArray[np.int16]

SEPARATOR = 256
"""Token before every text."""

_VOCABULARY = 264
"""Bytes, separator, and unused tokens up to a multiple of 8, which GPUs multiply faster."""

_IGNORED = -100
_CLIP, _WARMUP, _DECAY = 1.0, 0.05, 0.1


@dataclass(frozen=True)
class Size:
    """A model and how long it is trained.

    Attributes:
        width: Of the residual stream.
        layers: Blocks.
        heads: Attention heads; they divide the width.
        feed_forward: Width between.
        context: Tokens of a sequence.
        batch: Sequences a step.
        steps: Steps, so that a run sees context * batch * steps tokens.
        learning_rate: Its peak, after a warm-up over 5% of the steps; it decays to a tenth along a cosine.
        gold_bytes: Bytes of a gold set at most.
        record_bytes: Of a gold record, only the first bytes count.
    """

    width: int
    layers: int
    heads: int
    feed_forward: int
    context: int
    batch: int
    steps: int
    learning_rate: float
    gold_bytes: int
    record_bytes: int

    @property
    def tokens(self) -> int:
        """Tokens that a run sees."""
        return self.context * self.batch * self.steps

    @property
    def parameters(self) -> int:
        """Trained parameters (input and output embeddings are one)."""
        layer = 4 * self.width**2 + 3 * self.width * self.feed_forward + 2 * self.width
        return _VOCABULARY * self.width + self.layers * layer + self.width


SIZES = {
    "smoke": Size(96, 3, 4, 256, 128, 4, 600, 2e-3, 2**16, 2**12),
    "gpu": Size(320, 8, 5, 864, 1024, 32, 3000, 1.5e-3, 2**20, 2**14),
}
"""smoke: 0.36M parameters, 0.3 MB of text a run, for one CPU core. gpu: 10M parameters, 98 MB a run: some 8e15
floating-point operations, so that 15 runs fit an hour on a GPU that sustains 40 TFLOP/s in bfloat16."""


def require_torch() -> None:
    """Check that the packages are there.

    Raises:
        MiraError: One is missing.
    """
    for name in ("torch", "transformers"):
        try:
            __import__(name)
        except ImportError:
            raise MiraError(f"the small-LM proxy needs {name}", install_hint("train")) from None


def device() -> str:
    """Return what models are trained on: "cuda" where there is a GPU, else "cpu"."""
    import torch  # noqa: PLC0415 - an extra

    return "cuda" if torch.cuda.is_available() else "cpu"


def block_order(blocks: int, wanted: int, seed: int) -> npt.NDArray[np.int64]:
    """Return which blocks a run sees: one seeded permutation of all after the other, `wanted` in all."""
    rng = generator(seed, "proxy", "order")
    passes = [rng.permutation(blocks) for _ in range(-(-wanted // blocks))]
    return np.concatenate(passes)[:wanted]


def windows(text: bytes, context: int) -> list[tuple[Tokens, npt.NDArray[np.int64]]]:
    """Cut a text so that every byte is predicted once, with at least half a context before it where there is that.

    Returns:
        Inputs and targets, one pair of length `context` a window; what is not to be predicted is -100.
    """
    stream = np.concatenate([[SEPARATOR], np.frombuffer(text, np.uint8)])
    found, done = [], 0
    while done < len(text):
        start = max(0, done - context // 2) if done else 0
        stop = min(start + context, len(text))
        inputs = np.full(context, SEPARATOR, np.int16)
        targets = np.full(context, _IGNORED, np.int64)
        inputs[: stop - start] = stream[start:stop]
        targets[done - start : stop - start] = stream[done + 1 : stop + 1]
        found.append((inputs, targets))
        done = stop
    return found


def train_and_measure(
    tokens: Tokens, texts: Sequence[bytes], size: Size, seed: int, advance: Callable[[], None]
) -> tuple[Floats, float]:
    """Train a new model on `tokens` and measure texts with it.

    On one machine's CPU with the same number of threads, the same input gives the same result; on a GPU it differs in
    the last digits. A GPU is used where there is one, in bfloat16 autocast.

    Args:
        tokens: At least `size.context` tokens; cut into blocks of that length, a last partial one is left out.
        texts: What to measure.
        size: Model and recipe.
        seed: Of the weights and of the blocks' order.
        advance: Called once a step.

    Returns:
        Bits of each text, and the mean training loss of the last tenth of the steps in bits a token.

    Raises:
        MiraError: torch or transformers is missing.
    """
    require_torch()
    import torch  # noqa: PLC0415 - an extra

    on = device()
    with torch.random.fork_rng():
        torch.manual_seed(int(generator(seed, "proxy", "weights").integers(2**31)))
        model = _model(size).to(on)
        loss = _train(model, tokens, size, seed, on, advance)
        return _measure(model, texts, size, on), loss


def _model(size: Size) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - an extra

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_VOCABULARY,
            hidden_size=size.width,
            intermediate_size=size.feed_forward,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=size.context,
            initializer_range=size.width**-0.5 / 2,
            tie_word_embeddings=True,
            use_cache=False,
            bos_token_id=SEPARATOR,
            eos_token_id=SEPARATOR,
        )
    )


def _train(model: Any, tokens: Tokens, size: Size, seed: int, on: str, advance: Callable[[], None]) -> float:
    import torch  # noqa: PLC0415 - an extra

    blocks = tokens[: len(tokens) // size.context * size.context].reshape(-1, size.context)
    order = block_order(len(blocks), size.batch * size.steps, seed).reshape(size.steps, size.batch)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": _DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=size.learning_rate, betas=(0.9, 0.95), fused=on == "cuda")
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, size.steps))
    model.train()
    losses = []
    for chosen in order:
        batch = torch.from_numpy(blocks[chosen].astype(np.int64)).to(on)
        loss = _nats(model, batch[:, :-1], batch[:, 1:], on).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        advance()
    return float(torch.stack(losses[-max(1, size.steps // 10) :]).mean()) / math.log(2)


def _rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate."""
    warm = max(1, round(_WARMUP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.55 + 0.45 * math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm)))


def _nats(model: Any, inputs: Any, targets: Any, on: str) -> Any:
    """Return each target's negative log-likelihood, 0 where it is to be ignored."""
    import torch  # noqa: PLC0415 - an extra

    with torch.autocast(on, torch.bfloat16, enabled=on == "cuda"):
        logits = model(input_ids=inputs).logits
    flat = logits.float().reshape(-1, logits.shape[-1])
    nats = torch.nn.functional.cross_entropy(flat, targets.reshape(-1), ignore_index=_IGNORED, reduction="none")
    return nats.reshape(targets.shape)


def _measure(model: Any, texts: Sequence[bytes], size: Size, on: str) -> Floats:
    import torch  # noqa: PLC0415 - an extra

    cut = [(at, *window) for at, text in enumerate(texts) for window in windows(text, size.context)]
    bits = np.zeros(len(texts))
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(cut), size.batch):
            part = cut[start : start + size.batch]
            inputs = torch.from_numpy(np.stack([inputs for _, inputs, _ in part]).astype(np.int64)).to(on)
            targets = torch.from_numpy(np.stack([targets for _, _, targets in part])).to(on)
            nats = _nats(model, inputs, targets, on).double().sum(1).cpu().numpy()
            np.add.at(bits, [at for at, _, _ in part], nats / math.log(2))
    return bits
