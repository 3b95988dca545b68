"""What an endpoint answered to one request, as the journal keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Alternatives", "NoLogprobs", "Reply", "Token"]

Alternatives = tuple[tuple[str, float], ...]


class NoLogprobs(ValueError):
    """A completion without the log-probabilities that were asked for: the endpoint cannot give them."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply.

    Attributes:
        text: The token as text.
        logprob: Natural log of its probability.
        top: Likeliest tokens at its place with their log-probabilities; kept only where one of them holds a digit, and
            for two tokens after a digit: the rest would be most of the journal and says nothing of scores.
    """

    text: str
    logprob: float
    top: Alternatives = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """One paid-for reply, as raw as it came: it can be parsed again when the parser improves.

    Attributes:
        text: The message's content ("" where there was none).
        finish: Why it ended, in the server's words: "stop", "length", "content_filter", ...
        tokens_in: Prompt tokens by the server's count; 0 where it did not say.
        tokens_out: Reply tokens by the server's count.
        tokens: The reply's tokens with log-probabilities, or () where the server gave none.
        refusal: The model's refusal, where the server reports it apart from the content.
        reasoning: Thinking that the server reports apart from the content.
        model: The model's name in the server's words.
    """

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    tokens: tuple[Token, ...] = ()
    refusal: str = ""
    reasoning: str = ""
    model: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the reply ended at its token limit."""
        return self.finish == "length"

    @property
    def refused(self) -> bool:
        """Whether the endpoint's filter or the model declined to answer."""
        return self.finish == "content_filter" or bool(self.refusal and not self.text)

    @classmethod
    def from_completion(cls, body: Mapping[str, Any]) -> "Reply":
        """Read the body of a chat completion.

        Raises:
            ValueError: `body` is no chat completion with at least one choice.
        """
        try:
            choice = body["choices"][0]
            message = choice["message"]
            usage = body.get("usage") or {}
            return cls(
                text=_text(message.get("content")),
                finish=str(choice.get("finish_reason") or ""),
                tokens_in=int(usage.get("prompt_tokens") or 0),
                tokens_out=int(usage.get("completion_tokens") or 0),
                tokens=_tokens((choice.get("logprobs") or {}).get("content") or ()),
                refusal=_text(message.get("refusal")),
                reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
                model=str(body.get("model") or ""),
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError("not a chat completion") from error

    def line(self, key: bytes, tag: str) -> bytes:
        """Return the journal's JSON line, without a newline."""
        value: dict[str, Any] = {"key": key.hex(), "for": tag, "text": self.text, "finish": self.finish}
        value |= {"in": self.tokens_in, "out": self.tokens_out}
        value |= {k: v for k in ("refusal", "reasoning", "model") if (v := getattr(self, k))}
        if self.tokens:
            value["tokens"] = [[t.text, t.logprob, t.top] if t.top else [t.text, t.logprob] for t in self.tokens]
        return orjson.dumps(value)

    @classmethod
    def from_line(cls, value: Mapping[str, Any]) -> "Reply":
        """Read a journal line that `line` wrote."""
        tokens = tuple(
            Token(t[0], t[1], tuple((text, logprob) for text, logprob in t[2]) if len(t) > 2 else ())
            for t in value.get("tokens", ())
        )
        return cls(
            text=value["text"], finish=value["finish"], tokens_in=value["in"], tokens_out=value["out"], tokens=tokens,
            refusal=value.get("refusal", ""), reasoning=value.get("reasoning", ""), model=value.get("model", ""),
        )  # fmt: skip


def _text(content: Any) -> str:
    if isinstance(content, list):  # some servers answer in parts
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    # A lone surrogate ("\ud83d", half of a cut emoji) is legal in JSON and cannot be written as UTF-8.
    return str(content or "").encode("utf-8", "replace").decode()


def _tokens(content: Sequence[Mapping[str, Any]]) -> tuple[Token, ...]:
    tokens, digits = [], 0
    for t in content:
        text, top = _text(t["token"]), t.get("top_logprobs") or ()
        digits = 3 if _has_digit(text) else digits - 1
        kept = digits > 0 or any(_has_digit(str(other["token"])) for other in top)
        likely = tuple((_text(other["token"]), float(other["logprob"])) for other in top) if kept else ()
        tokens.append(Token(text, float(t["logprob"]), likely))
    return tuple(tokens)


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))
