"""Log-probabilities of a reply's tokens, in the forms in which servers give them.

=====================  ==============================================================================================
form                   what it looks like
=====================  ==============================================================================================
chat                   `{"content": [{"token", "logprob", "top_logprobs": [{"token", "logprob"}, ...]}, ...]}`
old completions        `{"tokens": [...], "token_logprobs": [...], "top_logprobs": [{token: logprob, ...}, ...]}`
=====================  ==============================================================================================

In both, tokens may be raw pieces of a byte-level tokenizer ("Ġ8" for " 8") or of SentencePiece ("▁8", "<0x0A>").
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

__all__ = ["Place", "read_places"]

Place = tuple[str, float | None, list[tuple[str, float]]]
"""A token, its log-probability (None if that is not a finite number), and the likeliest tokens in its place."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


def read_places(logprobs: Any, text: str) -> list[Place]:
    """Return the tokens of a reply; [] if they are missing or cannot be read. Never raises.

    Args:
        logprobs: The value of `logprobs` in the choice.
        text: The reply, which its tokens must spell unless they are raw pieces.
    """
    try:
        places = list(_places(logprobs)) if isinstance(logprobs, Mapping) else []
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
    plain = _plainer(places, text)
    return [(plain(token), logprob, [(plain(t), p) for t, p in top]) for token, logprob, top in places]


def _places(logprobs: Mapping[str, Any]) -> Iterator[Place]:
    if logprobs.get("content"):
        for entry in logprobs["content"]:
            top = [(str(other["token"]), other.get("logprob")) for other in entry.get("top_logprobs") or ()]
            yield str(entry["token"]), _finite(entry.get("logprob")), _known(top)
        return
    tokens, own = logprobs.get("tokens") or [], logprobs.get("token_logprobs") or []
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    for token, logprob, top in zip(tokens, own, tops, strict=True):
        yield str(token), _finite(logprob), _known(list(top.items()) if top else [])


def _known(top: list[tuple[str, Any]]) -> list[tuple[str, float]]:
    # Minus infinity comes as null, -Infinity or NaN: such a token never stands here.
    return [(token, logprob) for token, value in top if (logprob := _finite(value)) is not None]


def _finite(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and isfinite(value) else None


def _plainer(places: list[Place], text: str) -> Callable[[str], str]:
    """Return what makes text of tokens."""
    spelled = "".join(token for token, _, _ in places)
    if ("Ġ" in spelled and "Ġ" not in text) or ("Ċ" in spelled and "Ċ" not in text):
        return _of_bytes
    if "▁" in spelled and "▁" not in text:
        return _of_pieces
    return str


def _of_bytes(token: str) -> str:
    table = _byte_letters()
    if not all(letter in table for letter in token):
        return token
    return bytes(table[letter] for letter in token).decode("utf-8", "replace")


def _of_pieces(token: str) -> str:
    match = _BYTE.match(token)
    return bytes([int(match[1], 16)]).decode("utf-8", "replace") if match else token.replace("▁", " ")


@lru_cache(maxsize=1)
def _byte_letters() -> dict[str, int]:
    """Return the letter that byte-level tokenizers, GPT-2's and its heirs, write for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
