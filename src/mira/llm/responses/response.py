"""What a response means: a reply, a reason to wait, a refusal of this request, or an endpoint that cannot be used."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from mira.llm.limiter import retry_after
from mira.llm.responses.excerpt import excerpt
from mira.llm.responses.reply import FailedReply, NoLogprobs, Reply, load_json
from mira.llm.responses.wordings import Meaning, Said, meaning, read_error
from mira.llm.transport import Response
from mira.unscored import Unscored

__all__ = ["Busy", "Rejected", "Retryable", "Unusable", "Verdict", "listed_models", "verdict"]


@dataclass(frozen=True, slots=True)
class Busy:
    """Too many requests: wait `after` seconds, where the server says."""

    after: float | None


@dataclass(frozen=True, slots=True)
class Retryable:
    """No reply, but another try may go well.

    Attributes:
        what: "connection", "timeout" or "HTTP 503", for counting.
        detail: What happened, for people.
        after: Seconds to wait, where the server says.
        not_a_completion: What an HTTP 200 holds instead of a reply or an error, as the end of a sentence; "" otherwise.
        usage: (prompt tokens, reply tokens) of a failed generation that the server counted, and may bill.
    """

    what: str
    detail: str
    after: float | None = None
    not_a_completion: str = ""
    usage: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server will not answer this request, however often it is asked.

    Attributes:
        reason: OVERFLOW, REFUSED or ENDPOINT_ERROR.
        detail: The status and the server's words.
        context: The context length that the server named, where the reason is OVERFLOW.
        usage: (prompt tokens, reply tokens) of a generation that the server counted, and may bill.
    """

    reason: Unscored
    detail: str
    context: int | None = None
    usage: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Unusable:
    """The endpoint will not answer any request: wrong key, wrong model, wrong path, no credit."""

    status: int
    detail: str


Verdict = Reply | Busy | Retryable | Rejected | Unusable

_REASONS = {
    Meaning.OVERFLOW: Unscored.OVERFLOW, Meaning.FILTERED: Unscored.REFUSED, Meaning.REJECTED: Unscored.ENDPOINT_ERROR,
}  # fmt: skip
_SHOWN = 300
_QUOTED = 120


def verdict(
    response: Response, read: Callable[[Mapping[str, Any]], Reply] = Reply.from_completion, asked: bytes = b""
) -> Verdict:
    """Say what a response means.

    Args:
        response: The response.
        read: Reads the JSON of a good one (see `Form`).
        asked: The JSON of the request: what an error repeats of it decides nothing.
    """
    status = response.status
    if status == 200:
        return _reply(response.body, read, asked)
    text = _text(response.body)
    detail = f"HTTP {status}: {_message(text)}"
    if 300 <= status < 400:
        place = response.headers.get("location", "")
        detail = f"HTTP {status}: a redirect to {excerpt(place, _QUOTED)}, which mira does not follow"
    said = read_error(text)
    return _failure(status, said, detail, asked, _after(response, said))


def _failure(status: int, said: Said, detail: str, asked: bytes, after: float | None) -> Verdict:
    means, context = meaning(status, said, asked)
    if means is Meaning.BUSY:
        return Busy(after)
    if means is Meaning.UNUSABLE:
        return Unusable(status, detail)
    if means is Meaning.RETRYABLE:
        return Retryable(f"HTTP {status or '200 without a reply'}", detail, after)
    return Rejected(_REASONS[means], detail, context)


def _after(response: Response, said: Said) -> float | None:
    """Return the seconds that the server asks to wait: by header, or in its words."""
    if (after := retry_after(response.headers.get("retry-after"))) is not None:
        return after
    milliseconds = retry_after(response.headers.get("retry-after-ms"))
    return said.wait if milliseconds is None else milliseconds / 1000


def listed_models(response: Response) -> list[str]:
    """Return the names in a list of models; some servers send it bare.

    Raises:
        ValueError: It is no such list.
    """
    try:
        value = orjson.loads(response.body)
        return [str(model["id"]) for model in (value["data"] if isinstance(value, dict) else value)]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"is no list of models: {excerpt(_text(response.body), _QUOTED)}") from None


def _reply(body: bytes, read: Callable[[Mapping[str, Any]], Reply], asked: bytes) -> Verdict:
    try:
        return read(load_json(body))
    except NoLogprobs as error:
        return Rejected(Unscored.ENDPOINT_ERROR, str(error))
    except FailedReply as failed:
        said = read_error(orjson.dumps(failed.error).decode())
        failure = _failure(said.status, said, f"HTTP 200, but {failed}", asked, said.wait)
        return replace(failure, usage=failed.usage) if isinstance(failure, Retryable | Rejected) else failure
    except ValueError as error:  # an error under HTTP 200, half a body, or a page of something else
        text = _text(body)
        torn = isinstance(error, json.JSONDecodeError)
        what = f"{'not a completion' if torn else error}: {excerpt(text, _QUOTED)}"
        detail = f"HTTP 200, but {what}"
        if '"error"' in text and not torn:
            said = read_error(text)
            return _failure(said.status, said, detail, asked, said.wait)
        familiar = '"error"' in text or (torn and text.lstrip().startswith("{"))
        return Retryable("HTTP 200 without a reply", detail, not_a_completion="" if familiar else what)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _message(text: str) -> str:
    """Return the server's words out of an error body, on one line."""
    try:
        value = orjson.loads(text)
        error = value.get("error", value)
        words = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    except (orjson.JSONDecodeError, AttributeError):
        words = None
    return " ".join(str(words or text).split())[:_SHOWN]
