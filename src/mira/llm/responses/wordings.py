"""What servers say when they do not answer, and what each wording means: one table for all servers.

To add a server, add a row to `WORDINGS`, and its words to `tests/llm/responses/test_wordings.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

import orjson

__all__ = ["WORDINGS", "Meaning", "Said", "Wording", "meaning", "read_error"]


class Meaning(Enum):
    """What an answer that is not a reply means for what is sent next."""

    OVERFLOW = auto()  # this request is too long; a shorter one may do
    FILTERED = auto()  # the server's filter declines this request
    REJECTED = auto()  # the server will not answer this request as it is
    BUSY = auto()  # too many requests; the same one will do later
    RETRYABLE = auto()  # a fault of the server that may pass
    UNUSABLE = auto()  # no request will be answered: wrong key, path or model, or no credit


class Wording(NamedTuple):
    """One row of the table.

    Attributes:
        meaning: What it means.
        servers: Who says it.
        at: Statuses at which it counts; 0 is an error under HTTP 200 that names no status.
        words: Regular expression, searched without regard to case in the error's codes and messages.
    """

    meaning: Meaning
    servers: str
    at: frozenset[int]
    words: str


_ANY = frozenset({0, *range(400, 600)})
_ONE_REQUEST = _ANY - {401, 402, 403, 404, 429}
_FILTER = _ANY - {401, 402, 404, 429}
_ACCOUNT = frozenset({0, 400, 402, 403, 412, 429})
_SETTING = frozenset({0, 400, 403, 422})
_TOO_LARGE = frozenset({0, 413, 429})
_OVER, _FILT, _UNUS = Meaning.OVERFLOW, Meaning.FILTERED, Meaning.UNUSABLE

# The first row that fits decides. The word "billing" is in no row: limits that pass in a minute speak of it, too.
WORDINGS = (
    # No credit
    Wording(_UNUS, "OpenAI", _ACCOUNT, r"insufficient_quota|billing_hard_limit|billing_not_active"),
    Wording(_UNUS, "Anthropic", _ACCOUNT, r"credit balance is too low"),
    Wording(_UNUS, "Gemini, a quota of the day", _ACCOUNT, r"PerDay(?:Per|\b)"),
    Wording(_UNUS, "DeepSeek, MiniMax, Zhipu", _ACCOUNT, r"insufficient[ _](?:account[ _])?balance|余额不足"),
    Wording(_UNUS, "SiliconFlow", _ACCOUNT, r"balance is (?:insufficient|negative|exhausted)|please recharge"),
    Wording(_UNUS, "Moonshot", _ACCOUNT, r"exceeded_current_quota_error"),
    Wording(_UNUS, "DashScope, Volcengine", _ACCOUNT, r"\bArrearage\b|AccountOverdue"),
    Wording(_UNUS, "xAI", _ACCOUNT, r"used all available credits|doesn't have any credits|monthly spending limit"),
    Wording(_UNUS, "OpenRouter, Hugging Face", _ACCOUNT, r"insufficient credits|monthly included credits"),
    Wording(_UNUS, "Together, Fireworks", _ACCOUNT, r"credit limit exceeded|account .{0,80}is suspended"),
    # A wrong key or model under a status that mostly means something else
    Wording(_UNUS, "Gemini", _SETTING, r"API_KEY_INVALID|api key (?:not valid|expired)"),
    Wording(_UNUS, "xAI, DashScope, OpenAI", _SETTING, r"incorrect api key|invalid_?api_?key"),
    Wording(_UNUS, "OpenAI, DeepSeek, DashScope", _SETTING, r"\bmodel_not_found\b|\bmodel not exist\b"),
    # One request above the limit of a whole minute never passes
    Wording(_OVER, "OpenAI, Groq", _TOO_LARGE, r"request too large for|must be reduced in order to run"),
    # Too long
    Wording(_OVER, "OpenAI, Mistral, Groq, Azure", _ONE_REQUEST, r"context_length_exceeded|string_above_max_length"),
    Wording(_OVER, "OpenAI, vLLM, SGLang, Mistral, DeepSeek, OpenRouter, Fireworks, Ollama", _ONE_REQUEST,
            r"maximum context length"),
    Wording(_OVER, "OpenAI", _ONE_REQUEST, r"input tokens exceed the configured limit"),
    Wording(_OVER, "OpenAI, llama-cpp-python, Databricks", _ONE_REQUEST,
            r"exceeds? [^.]{0,40}context (?:window|size|length)"),
    Wording(_OVER, "LiteLLM", _ONE_REQUEST, r"ContextWindowExceeded"),
    Wording(_OVER, "TabbyAPI", _ONE_REQUEST, r"greater than max_seq_len"),
    Wording(_OVER, "watsonx", _ONE_REQUEST, r"cannot exceed the total tokens limit"),
    Wording(_OVER, "OpenAI, Groq", _ONE_REQUEST, r"reduce the length of"),
    Wording(_OVER, "vLLM", _ONE_REQUEST,
            r"max_model_len|maximum model length|too long to fit into the model|in prompt \(\d+\) exceeds"),
    Wording(_OVER, "SGLang", _ONE_REQUEST, r"model's context length|exceeds the maximum allowed length"),
    Wording(_OVER, "TGI, Together", _ONE_REQUEST,
            r"inputs`? tokens \+ `?max_new_tokens|`?inputs`? must have less than"),
    Wording(_OVER, "llama.cpp", _ONE_REQUEST,
            r"exceed_context_size|available context size|input is too large to process"),
    Wording(_OVER, "LM Studio, Ollama", _ONE_REQUEST,
            r"input length exceeds|context the overflows|greater than the context length"),
    Wording(_OVER, "LMDeploy", _ONE_REQUEST, r"session_len"),
    Wording(_OVER, "TensorRT-LLM", _ONE_REQUEST, r"prompt length .{0,40}exceeds? (?:the )?max|max_num_tokens"),
    Wording(_OVER, "Mistral", _ONE_REQUEST, r"prompt contains \d+ tokens"),
    Wording(_OVER, "Anthropic", _ONE_REQUEST, r"prompt is too (?:long|large)|exceed context limit|request_too_large"),
    Wording(_OVER, "Bedrock", _ONE_REQUEST, r"input is too long|too many input tokens|expected maxLength: \d+, actual"),
    Wording(_OVER, "Gemini", _ONE_REQUEST,
            r"input token count .{0,60}(?:exceeds|model only supports)|request payload size exceeds"),
    Wording(_OVER, "xAI", _ONE_REQUEST, r"maximum prompt length"),
    Wording(_OVER, "Moonshot", _ONE_REQUEST, r"exceeded model token limit|input token length too long"),
    Wording(_OVER, "DashScope", _ONE_REQUEST, r"range of input length should be"),
    Wording(_OVER, "Cohere", _ONE_REQUEST, r"too many tokens"),
    Wording(_OVER, "Zhipu, MiniMax, Qianfan", _ONE_REQUEST,
            r"prompt exceeds max length|context window exceeds|prompt tokens too long"),
    Wording(_OVER, "Volcengine", _ONE_REQUEST, r"exceed max message tokens"),
    Wording(_OVER, "others", _ONE_REQUEST, r"exceeds? (?:the )?(?:model|maximum|limit)[^.]{0,60}tokens"),
    # Filters
    Wording(_FILT, "OpenAI, Azure, Moonshot", _FILTER,
            r"content_?filter|content_policy|content policy|content management policy|ResponsibleAI|invalid_prompt"),
    Wording(_FILT, "OpenAI, OpenRouter", _FILTER,
            r"requires moderation|flagged (?:by|as|for)|was flagged|our safety system"),
    Wording(_FILT, "Mistral", _FILTER, r"violates moderation|content_moderation"),
    Wording(_FILT, "Anthropic, Bedrock", _FILTER,
            r"content filtering policy|guardrail_intervened|blocked by .{0,40}guardrail"),
    Wording(_FILT, "Gemini", _FILTER,
            r"PROHIBITED_CONTENT|(?:prompt|response|content|outputted) (?:was|is) blocked|block_?reason"),
    Wording(_FILT, "xAI", _FILTER, r"violates usage guidelines|SAFETY_CHECK_TYPE"),
    Wording(_FILT, "DashScope", _FILTER, r"data_?inspection_?failed|inappropriate content"),
    Wording(_FILT, "DeepSeek", _FILTER, r"content exists risk"),
    Wording(_FILT, "Moonshot", _FILTER, r"considered high risk"),
    Wording(_FILT, "Zhipu", _FILTER, r"不安全或敏感内容"),
    Wording(_FILT, "MiniMax, Volcengine", _FILTER, r"(?:input|output) new_sensitive|SensitiveContentDetected"),
    Wording(_FILT, "Cohere", _FILTER, r"error_toxic|blocked (?:input|output)"),
)  # fmt: skip

_PATTERNS = tuple((row, re.compile(row.words, re.IGNORECASE)) for row in WORDINGS)

# What a status means where no row fits. nginx, Envoy and other proxies send 413 with a page of their own.
_STATUSES = {
    0: Meaning.RETRYABLE, 401: Meaning.UNUSABLE, 402: Meaning.UNUSABLE, 403: Meaning.UNUSABLE, 404: Meaning.UNUSABLE,
    408: Meaning.RETRYABLE, 409: Meaning.RETRYABLE, 413: Meaning.OVERFLOW, 425: Meaning.RETRYABLE, 429: Meaning.BUSY,
    420: Meaning.BUSY, 451: Meaning.FILTERED, 498: Meaning.BUSY, 499: Meaning.RETRYABLE,
}  # fmt: skip

# Where an overflow names the number of tokens that fit.
_LIMITS = re.compile(
    r"(?:(?:context|model|prompt)[ _](?:length|size|window)(?: of| is|:)?|n_ctx\W{1,4}|max_model_len\D{1,20}"
    r"|session_len|must be <=|must have less than|token limit:|length should be \[\d+,|model only supports up to"
    r"|tokens allowed \(|allowed length \(|context limit: \d+ \+ \d+ >|tokens >|max input tokens:|limit of"
    r"|too large for model with|max size:|limit is|maximum:|tokens, maximum|max_seq_len|tokens limit"
    r"|prompt \(\d+\) exceeds)\s*\(?(\d{3,8})",
    re.IGNORECASE,
)
_WAIT = re.compile(r"(?:try again|retry) (?:in|after) (?:(\d+)m)?(\d+(?:\.\d+)?) ?(ms|s)", re.IGNORECASE)
_UNITS = {"ms": 1e-3, "s": 1.0}

_CODES = ("code", "type", "status", "reason", "blockReason", "quotaId", "Code", "error_code")
_MESSAGES = ("message", "msg", "detail", "error", "error_msg", "errmsg", "Message", "title", "raw")
_INSIDE = (
    "error", "detail", "details", "errors", "innererror", "metadata", "raw", "violations", "base_resp", "Error",
    "message",
)  # fmt: skip
_DEPTH = 6
_MOST = 4000
_ECHO = 48
_QUOTED = re.compile(r'"([^"]{12,})"|\'([^\']{12,})\'')


@dataclass(slots=True)
class Said:
    """What an error body says, without what it may repeat of the request.

    Attributes:
        codes: Values of fields that hold codes.
        messages: The server's sentences.
        context: Number of tokens that fit, where a field names it.
        status: The HTTP status that the body names, or 0.
        wait: Seconds after which the server wants to be asked again, or None.
    """

    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    context: int | None = None
    status: int = 0
    wait: float | None = None


def read_error(text: str) -> Said:
    """Read an error body: JSON of any server, or a page.

    Only fields that hold the server's own words are read: others, such as `input`, may repeat the request.
    """
    said = Said()
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    _gather(value, said, _DEPTH)
    said.messages = [_short(message) for message in said.messages]
    for message in said.messages:
        if said.wait is None and (found := _WAIT.search(message)):
            said.wait = 60.0 * int(found[1] or 0) + float(found[2]) * _UNITS[found[3].lower()]
    return said


def meaning(status: int, said: Said, asked: bytes = b"") -> tuple[Meaning, int | None]:
    """Return what an error means.

    Args:
        status: The HTTP status, or 0 for an error under HTTP 200 that names none.
        said: The error body.
        asked: The JSON of the request. What the error repeats of it decides nothing.

    Returns:
        The meaning, and the number of tokens that fit, where an overflow names it.
    """
    words = "\n".join([*said.codes, *said.messages])
    row = _fitting(status, words)
    if row is not None and asked and said.messages:
        words = "\n".join([*said.codes, *(_without_echo(message, asked) for message in said.messages)])
        row = _fitting(status, words)
    found = row.meaning if row else _STATUSES.get(status, Meaning.RETRYABLE if status >= 500 else Meaning.REJECTED)
    if found is not Meaning.OVERFLOW:
        return found, None
    named = [int(limit[1]) for limit in _LIMITS.finditer(words)]
    return found, said.context or min(named, default=None)


def _fitting(status: int, words: str) -> Wording | None:
    return next((row for row, pattern in _PATTERNS if status in row.at and pattern.search(words)), None)


def _gather(value: Any, said: Said, depth: int) -> None:
    if isinstance(value, str):
        if depth < _DEPTH and value.lstrip()[:1] in ("{", "["):  # JSON in a string, as gateways pass errors on
            try:
                _gather(orjson.loads(value), said, depth - 1)
                return
            except orjson.JSONDecodeError:
                pass
        said.messages.append(value)
    elif isinstance(value, list):
        for item in value[:20]:
            _gather(item, said, depth)
    elif isinstance(value, dict) and depth:
        _gather_fields(value, said, depth)


def _gather_fields(value: dict[str, Any], said: Said, depth: int) -> None:
    for name in _CODES:
        code = value.get(name)
        if isinstance(code, str):
            said.codes.append(code[:200])
        number = int(code) if isinstance(code, str) and code.isdigit() and len(code) == 3 else code
        if not said.status and isinstance(number, int) and 400 <= number < 600:
            said.status = number
    if isinstance(value.get("n_ctx"), int):
        said.context = value["n_ctx"]
    if isinstance(delay := value.get("retryDelay"), str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
        said.wait = float(delay[:-1])
    for name in dict.fromkeys((*_MESSAGES, *_INSIDE)):
        inner = value.get(name)
        if name in (_MESSAGES if isinstance(inner, str) else _INSIDE) and isinstance(inner, str | dict | list):
            _gather(inner, said, depth - 1)


def _short(text: str) -> str:
    text = " ".join(text.replace("\\n", " ").split())
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} {text[-_MOST // 2 :]}"


def _without_echo(message: str, asked: bytes) -> str:
    """Cut what a message repeats of the request: quotations of it, and stretches of 48 letters or more."""
    request = _short_of_request(asked)
    for found in _QUOTED.finditer(message):
        inner = found[1] or found[2]
        if inner.strip(" .…") in request:
            message = message.replace(inner, " ")
    at, step = 0, _ECHO // 2
    while at + step <= len(message):
        there = request.find(message[at : at + step])
        if there < 0:
            at += step
            continue
        before = _in_common(message[:at][::-1], request[max(0, there - at) : there][::-1])
        after = _in_common(message[at:], request[there : there + len(message)])
        if before + after >= _ECHO:
            message = f"{message[: at - before]}\n{message[at + after :]}"
            at -= before - 1
        else:
            at += after
    return message


def _in_common(one: str, other: str) -> int:
    """Return how many letters two texts have in common from their beginnings."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _short_of_request(asked: bytes) -> str:
    try:
        strings = _strings(orjson.loads(asked))
    except orjson.JSONDecodeError:
        strings = iter([asked.decode("utf-8", "replace")])
    return "\n".join(" ".join(s.replace("\\n", " ").split()) for s in strings)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
