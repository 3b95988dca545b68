"""A Qwen3 of two layers with random weights and its own byte-level tokenizer: the smallest real base model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if not (enable_thinking is defined and enable_thinking is false) %}
{{- '<think>\\n' }}
{%- endif %}
{%- endif %}"""


def needs_training() -> None:
    for name in ("torch", "transformers", "trl", "peft"):
        pytest.importorskip(name, reason=f"tuning needs {name}: pip install 'mira-select[train]'")


def tokenizer(texts: Sequence[str], vocabulary: int = 600) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    made.chat_template = TEMPLATE
    return made


def save(folder: Path, texts: Sequence[str], context: int = 2048, **shape: int) -> Path:
    """Write the model; as with real base models, eos is the end of a text, not of a turn."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    chat = tokenizer(texts)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16} | shape
    config = Qwen3Config(
        vocab_size=len(chat), num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=context, eos_token_id=chat.eos_token_id, use_cache=True, **sizes,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    chat.save_pretrained(folder)
    return folder
