"""Embedders: texts in, unit vectors out."""

from mira.embedding.causal_lm import MiddleLayer
from mira.embedding.embedder import Embedder
from mira.embedding.endpoint import EndpointEmbedder
from mira.embedding.load import load_embedder
from mira.embedding.minilm import MiniLM
from mira.embedding.sentence_transformer import SentenceTransformerEmbedder
from mira.embedding.static import StaticTokens

__all__ = [
    "Embedder",
    "EndpointEmbedder",
    "MiddleLayer",
    "MiniLM",
    "SentenceTransformerEmbedder",
    "StaticTokens",
    "load_embedder",
]
