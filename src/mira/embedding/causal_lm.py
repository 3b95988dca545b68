"""The middle layer of a small causal LM (transformers and torch, extra `[train]`), by option."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mira.config.settings import EmbeddingSettings
from mira.embedding.embedder import Vectors
from mira.embedding.sentence_transformer import hash_weights, one_thread
from mira.errors import ConfigError, install_hint

__all__ = ["MiddleLayer"]


class MiddleLayer:
    """Mean of a causal LM's hidden states at one layer, normalised. Layers after it are not computed.

    A text's first `settings.max_tokens` tokens are read, alone, without padding and in one thread, so that a vector
    depends on its text only. The identity holds a hash of the weights, and of a folder's path the last part only.

    Args:
        settings: `model` names the model, `layer` the depth as a share of its layers.

    Raises:
        ConfigError: The libraries are not installed, or the model cannot be loaded.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        try:
            import torch  # noqa: PLC0415 - optional
            from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - optional
            from transformers.utils import logging  # noqa: PLC0415 - optional
        except ImportError:
            raise ConfigError(
                f"embedding.layer: {settings.model!r} needs torch and transformers, which are not installed",
                f"Install them with: {install_hint('train')}; or leave out embedding.layer.",
            ) from None
        assert settings.layer is not None, "checked where the embedder is chosen"
        logging.disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(settings.model)
            self._model = AutoModel.from_pretrained(settings.model, use_safetensors=True, dtype=torch.float32).eval()
            layers = _layers(self._model)
        except Exception as error:  # the library raises many kinds for a wrong name or a failed download
            words = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"embedding.model: cannot load {settings.model!r} as a causal LM: {words}",
                "Check the name or the folder; the model needs weights in safetensors.",
            ) from None
        number = max(1, round(settings.layer * len(layers)))
        name = Path(settings.model).name if Path(settings.model).is_dir() else settings.model
        self.identity = f"causal-lm:{name}:{hash_weights(self._model)}:{number}:{settings.max_tokens}"
        self.dim = int(self._model.config.hidden_size)
        self._most = settings.max_tokens
        layers[number - 1].register_forward_hook(_stop)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), dim); a text without a token is a row of zeros."""
        with one_thread():
            rows = [self._vector(text) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dim)

    def _vector(self, text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        import torch  # noqa: PLC0415 - optional

        encoded = self._tokenizer(text, truncation=True, max_length=self._most, return_tensors="pt")
        if not encoded["input_ids"].shape[1]:
            return np.zeros(self.dim)
        try:
            with torch.inference_mode():
                self._model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], use_cache=False)
        except _Reached as reached:
            states = reached.states[0].double().mean(dim=0).numpy()
        return np.asarray(states / max(float(np.linalg.norm(states)), 1e-12))


class _Reached(Exception):
    """The layer is computed: the rest of the model need not be."""

    def __init__(self, states: Any) -> None:
        self.states = states


def _stop(_module: Any, _inputs: Any, output: Any) -> None:
    raise _Reached(output[0] if isinstance(output, tuple) else output)


def _layers(model: Any) -> Any:
    """Return the list of a model's layers, wherever its architecture keeps it.

    Raises:
        ValueError: The list is missing.
    """
    from torch.nn import ModuleList  # noqa: PLC0415 - optional

    count = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return module
    raise ValueError(f"no list of {count} layers")
