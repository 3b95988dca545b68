"""Tokenizers that budgets and prompts are measured with."""

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mira.errors import ConfigError
from mira.run_folder.files import hash_file

__all__ = ["BUILT_IN", "Tokenizer", "tokenizer"]

BUILT_IN = ("qwen3", "cl100k_base", "o200k_base", "llama3")
"""Names of tokenizers that need no file."""


class Tokenizer(Protocol):
    """Text -> tokens. Text that looks like a special token ("<|im_end|>") is plain text.

    Attributes:
        name: As it is written in the config.
        identity: What its counts depend on: the name of a built-in tokenizer, or the hash of tokenizer.json.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def identity(self) -> str: ...  # noqa: D102

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens. A character that is cut in two becomes U+FFFD."""
        ...


@functools.lru_cache(maxsize=8)
def tokenizer(name: str, threads: int = 0) -> Tokenizer:
    """Return a tokenizer.

    Args:
        name: qwen3, cl100k_base, o200k_base, llama3, or the path of a tokenizer.json.
        threads: Threads that a call of `count` may use; 0 means all cores. Only built-in tokenizers obey it.

    Raises:
        ConfigError: The tokenizer is unknown, or its file cannot be read.
    """
    if name in BUILT_IN:
        return _BuiltIn(name, threads)
    path = Path(name).expanduser()
    if path.suffix == ".json" or path.exists():
        return _File(name, path / "tokenizer.json" if path.is_dir() else path)
    near = difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.4)
    raise ConfigError(
        f"tokenizer: '{name}' is not known" + (f"; did you mean {near[0]}?" if near else ""),
        f"Use one of {', '.join(BUILT_IN)}, or the path of a tokenizer.json file.",
    )


class _BuiltIn:
    def __init__(self, name: str, threads: int) -> None:
        import quicktok  # noqa: PLC0415  (half a second that most commands need not spend)

        self.name = self.identity = name
        self._count_batch, self._encoding, self._threads = quicktok.count_batch, quicktok.get_encoding(name), threads

    def count(self, texts: Sequence[str]) -> list[int]:
        counts: list[int] = self._count_batch(self._encoding, list(texts), threads=self._threads).tolist()
        return counts

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._encoding.encode_ordinary(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._encoding.decode(list(ids))
        return text


class _File:
    def __init__(self, name: str, path: Path) -> None:
        from tokenizers import Tokenizer as Loaded  # noqa: PLC0415

        if not path.is_file():
            raise ConfigError(f"tokenizer: {path} is not a file", "Point to a tokenizer.json file.")
        try:
            self._loaded: Any = Loaded.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ConfigError(f"tokenizer: {path}: {error}", "Point to a tokenizer.json file.") from None
        self._loaded.encode_special_tokens = True
        self._loaded.no_truncation()
        self._loaded.no_padding()
        self.name, self.identity = name, f"tokenizer.json:{hash_file(path)}"

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(e.ids) for e in self._loaded.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._loaded.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._loaded.decode(list(ids), skip_special_tokens=False)
        return text
