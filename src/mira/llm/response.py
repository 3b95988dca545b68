"""What a response means: a reply, a reason to wait, a refusal of this request, or an endpoint that cannot be used."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mira.llm.excerpt import quoted
from mira.llm.limiter import retry_after
from mira.llm.reply import NoLogprobs, Reply
from mira.llm.transport import Response
from mira.unscored import Unscored

__all__ = ["Broken", "Busy", "Rejected", "Unusable", "Verdict", "listed_models", "verdict"]


@dataclass(frozen=True, slots=True)
class Busy:
    """Too many requests: wait `after` seconds, where the server says."""

    after: float | None


@dataclass(frozen=True, slots=True)
class Broken:
    """No reply, but another try may go well.

    Attributes:
        what: "connection", "timeout" or "HTTP 503", for counting.
        detail: What happened, for people.
        after: Seconds to wait, where the server says.
        foreign: What a 200 is that holds neither a reply nor an error: words for a sentence that starts with "it".
    """

    what: str
    detail: str
    after: float | None = None
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server will not answer this request, however often it is asked.

    Attributes:
        reason: OVERFLOW, REFUSED or ENDPOINT_ERROR.
        detail: The status and the server's words.
        context: The context length that the server named, where the reason is OVERFLOW.
    """

    reason: Unscored
    detail: str
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """The endpoint will not answer any request: wrong key, wrong model, wrong path, no credit."""

    status: int
    detail: str


Verdict = Reply | Busy | Broken | Rejected | Unusable

_OVERFLOW = re.compile(
    r"context.?length|context.?size|context.?window|maximum model length|max_model_len|prompt is too long"
    r"|input is too long|too many tokens|exceeds? the (?:model|maximum|limit)[^.]*tokens|reduce the length",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r'(?:(?:context|model)[ _](?:length|size|window)(?: of| is|:)?|"n_ctx"\s*:)\s*\(?(\d{3,7})', re.IGNORECASE
)
_FILTER = re.compile(r"content_filter|content_policy|content policy|ResponsibleAI|moderation|flagged", re.IGNORECASE)
_NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota|insufficient balance|billing", re.IGNORECASE)
_SHOWN = 300
_QUOTED = 120


def verdict(response: Response, read: Callable[[Mapping[str, Any]], Reply] = Reply.from_completion) -> Verdict:
    """Say what a response means; `read` reads the JSON of a good one (see `Form`)."""
    status = response.status
    if status == 200:
        return _reply(response.body, read)
    text = _text(response.body)
    detail = f"HTTP {status}: {_message(text)}"
    after = retry_after(response.headers.get("retry-after"))
    if status == 429 and not _NO_CREDIT.search(text):
        return Busy(after)
    if status in {401, 402, 403, 404, 429} and not (status == 403 and _FILTER.search(text)):
        return Unusable(status, detail)
    # Some servers (llama.cpp among them) have answered an overflow with 500.
    if _OVERFLOW.search(text):
        return _overflow(text, detail)
    if status >= 500 or status in {408, 409, 425}:
        return Broken(f"HTTP {status}", detail, after)
    return Rejected(Unscored.REFUSED if _FILTER.search(text) else Unscored.ENDPOINT_ERROR, detail)


def listed_models(response: Response) -> list[str]:
    """Return the names in a list of models; some servers send it bare.

    Raises:
        ValueError: It is no such list.
    """
    try:
        value = orjson.loads(response.body)
        return [str(model["id"]) for model in (value["data"] if isinstance(value, dict) else value)]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"is no list of models: {quoted(_text(response.body), _QUOTED)}") from None


def _reply(body: bytes, read: Callable[[Mapping[str, Any]], Reply]) -> Verdict:
    try:
        return read(orjson.loads(body))
    except NoLogprobs as error:
        return Rejected(Unscored.ENDPOINT_ERROR, str(error))
    except ValueError as error:  # an error under HTTP 200, half a body, or a page of something else
        text = _text(body)
        if '"error"' in text and _OVERFLOW.search(text):
            return _overflow(text, _message(text))
        torn = isinstance(error, orjson.JSONDecodeError)
        said = f"{'not a completion' if torn else error}: {quoted(text, _QUOTED)}"
        familiar = '"error"' in text or (torn and text.lstrip().startswith("{"))
        return Broken("HTTP 200 without a reply", f"HTTP 200, but {said}", foreign="" if familiar else said)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _overflow(text: str, detail: str) -> Rejected:
    named = _CONTEXT.search(text)
    return Rejected(Unscored.OVERFLOW, detail, int(named[1]) if named else None)


def _message(text: str) -> str:
    """Return the server's words out of an error body, on one line."""
    try:
        value = orjson.loads(text)
        error = value.get("error", value)
        words = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    except (orjson.JSONDecodeError, AttributeError):
        words = None
    return " ".join(str(words or text).split())[:_SHOWN]
