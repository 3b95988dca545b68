"""Requests: the JSON sent to an endpoint, and the key of its reply in the journal."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mira.config.settings import EndpointSettings
from mira.errors import JudgeError
from mira.llm.responses.reply import Reply
from mira.run_folder.files import hash_json
from mira.unscored import Unscored
from mira.urls import join_url, problem_of_url

__all__ = ["CHAT", "Form", "Message", "Request", "RequestBuilder", "Shrink", "about_tokens", "base_urls"]

_TOP_LOGPROBS = 20
_BYTES_A_TOKEN = 3

Message = dict[str, str]
Shrink = Callable[[int | None], "Request | None"]


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of request that endpoints answer.

    Attributes:
        path: Its path below the base URL.
        content: The field that says what it is about: messages, or a prompt.
        fields: All other fields of a request, from the endpoint's settings.
        read: Reads a response's JSON; raises ValueError where it holds no reply, `NoLogprobs` where the endpoint
            leaves out what was asked for.
        pooling: Whether a pooling model answers: its path lies beside the base URL's /v1, not below it, and no token is
            generated.
    """

    path: str
    content: str
    fields: Callable[[EndpointSettings], dict[str, Any]]
    read: Callable[[Mapping[str, Any]], Reply]
    pooling: bool = False

    def url(self, base_url: str) -> str:
        """Return where such a request goes."""
        if self.pooling:
            head, mark, query = base_url.partition("?")
            base_url = head.rstrip("/").removesuffix("/v1") + mark + query
        return join_url(base_url, self.path)


@dataclass(frozen=True, slots=True)
class Request:
    """One request to an endpoint.

    Attributes:
        key: 16 bytes, the hash of everything that may change the reply.
        body: The JSON that is sent.
        tokens: Prompt tokens as measured here.
        source: Source of the record it is about, for tables of failures.
        tag: Its subject, for people, e.g. "source/id".
        context: Any object to return beside the reply.
        smaller: Makes a smaller request when the server says that this one does not fit; None if that is impossible.
            It takes the context length that the server named, or None.
        unsendable: Set on what is not sent at all; see `never_sent`.
        form: What kind of request it is; None only where it is not sent.
    """

    key: bytes
    body: bytes
    tokens: int
    source: str
    tag: str = ""
    context: Any = None
    smaller: Shrink | None = None
    unsendable: Unscored | None = None
    form: Form | None = None

    @classmethod
    def never_sent(cls, reason: Unscored, *, source: str, tag: str = "", context: Any = None) -> "Request":
        """Return a request that is answered with a failure at once: it is known that there can be no reply."""
        return cls(b"", b"", 0, source, tag, context, None, reason)


class RequestBuilder:
    """Makes requests for one endpoint.

    Args:
        settings: The endpoint.
        purpose: Hash of what the requests are for beyond their text: rubric and prompt.
        form: What kind of requests they are; chat where it is None.

    Attributes:
        urls: Base URLs without a trailing slash.
        identity: Hash of endpoint, model, sampling, extra body and purpose: all of the key but the content.

    Raises:
        JudgeError: A base URL is not valid, or carries a key.
    """

    def __init__(self, settings: EndpointSettings, purpose: str, form: Form | None = None) -> None:
        self._form = form or CHAT
        self.urls = base_urls(settings, self._form)
        # null takes a field out, for endpoints that refuse one.
        fields = self._form.fields(settings) | settings.extra_body
        self._fields = {key: value for key, value in fields.items() if value is not None}
        # Without a name for what is served the first URL stands for it: replicas come and go, replies stay usable.
        served = settings.identity or self.urls[:1]
        self.identity = hash_json([served, self._fields, purpose])
        self._head = f"mira reply 1\0{self.identity}\0"

    def body(self, content: Sequence[Message] | str) -> dict[str, Any]:
        """Return the JSON object to send."""
        return {self._form.content: content, **self._fields}

    def request(
        self, content: Sequence[Message] | str, *, index: Sequence[int] = (0, 0), tokens: int, source: str,
        tag: str = "", context: Any = None, smaller: Shrink | None = None,
    ) -> Request:  # fmt: skip
        """Return a request for one reply.

        Args:
            content: Chat messages, or a prompt, as the form wants it.
            index: (replicate, sample): independent replies to the same content have different ones.
            tokens: Prompt tokens.
            source: Source of the record.
            tag: What it is about, for people.
            context: Kept beside the reply.
            smaller: See `Request`.
        """
        body = orjson.dumps(self.body(content), option=orjson.OPT_SORT_KEYS)
        head = f"{self._head}{index[0]}\0{index[1]}\0".encode()
        key = hashlib.blake2b(head + body, digest_size=16).digest()
        return Request(key, body, tokens, source, tag, context, smaller, form=self._form)


def about_tokens(text: str) -> int:
    """Estimate the tokens of a text from its bytes, for the limiter and the cost guard."""
    return len(text.encode()) // _BYTES_A_TOKEN


def _chat_fields(settings: EndpointSettings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": settings.model,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
    }
    if settings.logprobs:
        fields |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
    return fields


CHAT = Form("/chat/completions", "messages", _chat_fields, Reply.from_completion)


def base_urls(settings: EndpointSettings, form: Form = CHAT) -> list[str]:
    """Return an endpoint's base URLs, without a trailing slash and without the path of the form; a query stays.

    Raises:
        JudgeError: base_url is empty, or a URL is not valid or carries a key.
    """
    urls = [settings.base_url] if isinstance(settings.base_url, str) else settings.base_url
    if not urls:
        raise JudgeError("base_url is empty", "Give the endpoint's base URL, such as http://localhost:8000/v1.")
    return [_checked(url, form.path) for url in urls]


def _checked(url: str, path: str) -> str:
    if problem := problem_of_url(url):
        raise JudgeError(f"base_url: {problem[0]}", problem[1])
    head, mark, query = url.partition("?")
    return head.rstrip("/").removesuffix(path) + mark + query
