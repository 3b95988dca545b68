"""What an endpoint answered to one request, as the journal keeps it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mira.llm.responses.finish import Ending, ending
from mira.llm.responses.logprobs import Place, read_places
from mira.llm.responses.usage import read_usage

__all__ = ["Alternatives", "FailedReply", "NoLogprobs", "Reply", "Token", "load_json"]

Alternatives = tuple[tuple[str, float], ...]


class NoLogprobs(ValueError):
    """A completion without the log-probabilities that were asked for: the endpoint cannot give them."""


class FailedReply(ValueError):
    """HTTP 200, but the generation failed: what there is of it is not a reply.

    Attributes:
        error: What the server says of it: its error object, or the finish reason.
        usage: (prompt tokens, reply tokens) that the server counted all the same; 0 where it did not.
    """

    def __init__(self, error: Any, usage: Any = None) -> None:
        words = error.get("message") or error.get("code") if isinstance(error, Mapping) else error
        super().__init__(f"the generation failed: {_text(str(words))[:_SHOWN]}")
        self.error = error
        self.usage = read_usage(usage)


_SURROGATE = re.compile("[\ud800-\udfff]")


def load_json(body: bytes) -> Any:
    """Parse JSON as servers write it: a byte order mark, NaN, lone surrogates and torn characters do not matter.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body.decode("utf-8-sig", "replace"))
        except RecursionError:
            raise ValueError("nested too deeply") from None


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
        return ending(self.finish) is Ending.CUT

    @property
    def failed(self) -> bool:
        """Whether the generation failed; a journal may hold such a reply from before they were told apart."""
        return ending(self.finish) is Ending.FAILED

    @property
    def refused(self) -> bool:
        """Whether the endpoint's filter or the model declined to answer."""
        return ending(self.finish) is Ending.REFUSED or bool(self.refusal and not self.text)

    @classmethod
    def from_completion(cls, body: Mapping[str, Any]) -> "Reply":
        """Read the body of a chat completion. What stands beside the text may be malformed: it is then left out.

        Raises:
            FailedReply: The body says that the generation failed.
            ValueError: `body` is no chat completion with at least one choice.
        """
        try:
            choice = body["choices"][0]
            finish = _finish(choice.get("finish_reason"))
            error = choice.get("error") or body.get("error")
            if error or ending(finish) is Ending.FAILED:
                raise FailedReply(error or finish, body.get("usage"))
            message = (
                choice["message"] if "text" not in choice else choice.get("message") or {"content": choice["text"]}
            )
            content = message.get("content")
            text = _text(content)
            names = ("reasoning_content", "reasoning", "thinking")
            reasoning = next((said for name in names if (said := _text(message.get(name)))), "") or _thinking(content)
            tokens_in, tokens_out = read_usage(body.get("usage"))
            return cls(
                text=text,
                finish=finish,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                tokens=_tokens(read_places(choice.get("logprobs"), text)),
                refusal=_text(message.get("refusal")),
                reasoning=reasoning,
                model=_text(body.get("model")),
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


_SHOWN = 300


def _finish(reason: Any) -> str:
    return _text(reason.get("type") if isinstance(reason, Mapping) else reason)  # SGLang: {"type": "length", ...}


def _text(content: Any) -> str:
    if isinstance(content, list):  # some servers answer in parts, and some of these are thinking
        content = "".join(_part(part) for part in content if not _is_thinking(part))
    # A lone surrogate ("\ud83d", half of a cut emoji) is legal in JSON and cannot be written as UTF-8.
    return _SURROGATE.sub("\ufffd", content) if isinstance(content, str) else ""


def _thinking(content: Any) -> str:
    """Return the thinking among the parts of a message."""
    parts = filter(_is_thinking, content) if isinstance(content, list) else ()
    return "".join(_text(part.get("thinking")) or _text(part.get("text")) for part in parts)


def _is_thinking(part: Any) -> bool:
    return isinstance(part, Mapping) and str(part.get("type")) in {"thinking", "reasoning", "redacted_thinking"}


def _part(part: Any) -> str:
    said = part.get("text") if isinstance(part, Mapping) else part
    return said if isinstance(said, str) else ""


def _tokens(places: list[Place]) -> tuple[Token, ...]:
    tokens, digits = [], 0
    for text, logprob, top in places:
        digits = 3 if _has_digit(text) else digits - 1
        # Where the token's own probability is not known, the others' say nothing.
        kept = logprob is not None and (digits > 0 or any(_has_digit(other) for other, _ in top))
        likely = tuple((_text(other), value) for other, value in top) if kept else ()
        tokens.append(Token(_text(text), logprob or 0.0, likely))
    return tuple(tokens)


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))
