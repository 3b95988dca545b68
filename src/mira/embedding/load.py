"""From settings to an embedder."""

from mira import plugins
from mira.config.settings import EmbeddingSettings
from mira.embedding.causal_lm import MiddleLayer
from mira.embedding.embedder import Embedder
from mira.embedding.endpoint import EndpointEmbedder
from mira.embedding.minilm import MiniLM
from mira.embedding.sentence_transformer import SentenceTransformerEmbedder

__all__ = ["load_embedder", "load_minilm"]


def load_embedder(settings: EmbeddingSettings, threads: int = 0) -> Embedder:
    """Return the embedder that `settings.model` names.

    Args:
        settings: "minilm" is the built-in model; an http(s) URL is an OpenAI-compatible endpoint; anything else is a
            sentence-transformers model, or with `settings.layer` a causal LM.
        threads: Threads of the built-in model; 0 means one per core. Worker processes pass 1.

    Raises:
        ConfigError: The model needs a package that is not there.
        InputError: The built-in model's file is missing or changed.
        JudgeError: The endpoint cannot be used, or a key is missing.
    """
    if plugins.is_known(plugins.EMBEDDERS, settings.model):
        added: Embedder = plugins.load(plugins.EMBEDDERS, settings.model)(settings, threads)
        return added
    if settings.model.startswith(("http://", "https://")):
        return EndpointEmbedder(settings)
    if settings.layer is not None:
        return MiddleLayer(settings)
    return SentenceTransformerEmbedder(settings)


def load_minilm(settings: EmbeddingSettings, threads: int) -> MiniLM:
    """Return the built-in model."""
    return MiniLM(settings.windows, settings.window_tokens, threads)
