"""The one HTTP seam to chat endpoints, and a public fake of it.

mira speaks the protocol itself: a client library on top costs four to thirty times the CPU of the request.
"""

import asyncio
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import orjson

from mira.config.settings import EndpointSettings
from mira.errors import JudgeError
from mira.run_folder.open_files import connections_that_fit

if TYPE_CHECKING:
    import aiohttp

__all__ = ["FakeTransport", "HttpTransport", "Lost", "Response", "TimedOut", "TooLarge", "Transport", "completion"]

_CONNECT_S = 10.0
_LARGEST_RESPONSE = 64 << 20  # bytes; 16k tokens with 20 log-probabilities each take 20 MB (ours)
_HIDDEN = b"***"
_LONGEST_HEADER = 1 << 16  # gateways send policies of more than aiohttp's 8 kB
_HOP_BY_HOP = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type", "accept"})
_BEARER = re.compile(rb"(Bearer\s+)[^\s\"'\\,]+", re.IGNORECASE)


class Lost(Exception):
    """The connection was refused or lost before a whole response came."""


class TooLarge(Lost):
    """The response is larger than any reply can be; the rest of it was not read."""


class TimedOut(Exception):
    """No whole response came in time."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response: status, body, and headers with lower-case names, which a 200 may lack."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """How requests reach an endpoint. Inject another one to add faults, a proxy or a recording."""

    async def start(self) -> None:
        """Open what is needed; called in the event loop before the first request."""
        ...

    async def stop(self) -> None:
        """Close it."""
        ...

    async def post(self, url: str, body: bytes, timeout_s: float) -> Response:
        """Send JSON and return the whole response, of any status.

        Raises:
            Lost: The connection was refused or lost.
            TimedOut: `timeout_s` seconds passed.
            TooLarge: The response is too large to hold.
        """
        ...

    async def get(self, url: str, timeout_s: float) -> Response:
        """Ask for `url` and return the whole response; raises as `post` does."""
        ...


class HttpTransport:
    """Requests over aiohttp.

    The key is read from the environment, goes out in one header and nowhere else: it is blotted out of everything that
    comes back, so that a server which echoes it cannot put it into a journal, a log or an error.

    Args:
        api_key_env: Name of the environment variable with the key; "" for none.
        connections: Connections at most; as many as the limiter allows requests.
        base_urls: Where requests will go. The environment's proxy is used unless all of these are on this machine.
        key_header: The header that carries the key.
        headers: Further headers, name -> environment variable with the value, which counts as a key too.
        largest: Bytes that a response may have.

    Raises:
        JudgeError: An environment variable is not set, or holds what cannot be sent as a header.
    """

    def __init__(
        self, api_key_env: str = "", connections: int = 256, base_urls: Sequence[str] = (), *,
        key_header: str = "Authorization", headers: Mapping[str, str] | None = None,
        largest: int = _LARGEST_RESPONSE,
    ) -> None:  # fmt: skip
        self._largest = largest
        self._key = _read_key(api_key_env, "api_key_env")
        self._headers = {name: _read_key(variable, f"headers.{name}") for name, variable in (headers or {}).items()}
        if bad := next((name for name in (*self._headers, key_header) if name.lower() in _HOP_BY_HOP), None):
            raise JudgeError(f"headers: {bad} is set by mira itself", "Take it out of headers.")
        self._secrets = sorted({v.encode() for v in (self._key, *self._headers.values()) if v}, key=len, reverse=True)
        if self._key:
            self._headers[key_header] = f"Bearer {self._key}" if key_header.lower() == "authorization" else self._key
        self._connections = connections
        self._trust_env = not all(_is_local(url) for url in base_urls)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, settings: EndpointSettings, connections: int, base_urls: Sequence[str]) -> "HttpTransport":
        """Return the transport of an endpoint's settings."""
        return cls(
            settings.api_key_env, connections, base_urls, key_header=settings.api_key_header, headers=settings.headers
        )

    def __repr__(self) -> str:
        return f"HttpTransport(key={'set' if self._key else 'none'}, connections={self._connections})"

    async def start(self) -> None:
        """Open the pool of connections."""
        import aiohttp  # noqa: PLC0415 - slow to import

        headers = {"Content-Type": "application/json", "Accept": "application/json", **self._headers}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections_that_fit(self._connections), ttl_dns_cache=60),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )

    async def stop(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, url: str, body: bytes, timeout_s: float) -> Response:
        """Send JSON and return the whole response, of any status."""
        return await self._request("POST", url, body, timeout_s)

    async def get(self, url: str, timeout_s: float) -> Response:
        """Ask for `url` and return the whole response, of any status."""
        return await self._request("GET", url, None, timeout_s)

    async def _request(self, method: str, url: str, body: bytes | None, timeout_s: float) -> Response:
        import aiohttp  # noqa: PLC0415 - slow to import
        from yarl import URL  # noqa: PLC0415

        assert self._session is not None, "start() comes first"
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(_CONNECT_S, timeout_s))
        try:
            # Redirects are not followed: they would carry the key to another host.
            async with self._session.request(
                method, URL(url), data=body, timeout=limits, allow_redirects=False
            ) as response:
                data = self._blot(await _read(response, self._largest))
                if response.status == 200:
                    return Response(200, data)
                return Response(response.status, data, self._shown(response.headers))
        except TimeoutError:
            raise TimedOut(f"no reply within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Lost(_why(error)) from None

    def _shown(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {k.lower(): self._blot(v.encode("utf-8", "replace")).decode("utf-8") for k, v in headers.items()}

    def _blot(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, _HIDDEN)
        return _BEARER.sub(rb"\1" + _HIDDEN, data) if b"earer " in data and self._secrets else data


async def _read(response: "aiohttp.ClientResponse", largest: int) -> bytes:
    """Return the body, decompressed; no more than `largest` bytes of it are ever held."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > largest:
            raise TooLarge(f"more than {largest >> 20:,} MB long")
        pieces.append(piece)
    return b"".join(pieces)


def _why(error: Exception) -> str:
    """Return what lost the connection, and the setting that may mend it; the error's own text may hold the headers."""
    import aiohttp  # noqa: PLC0415 - slow to import

    name = type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return f"{name}: its certificate is not trusted; name the file of its authority in SSL_CERT_FILE"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return f"{name}: the proxy in HTTPS_PROXY or HTTP_PROXY; NO_PROXY names hosts to reach without it"
    return name


def _read_key(name: str, setting: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise JudgeError(
            f"the environment variable {name}, named by {setting}, is not set",
            f"Set it: export {name}=...",
        )
    if not key.isascii() or not key.isprintable():
        raise JudgeError(f"the environment variable {name} holds characters that no key has", "Copy the key again.")
    return key


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


FakeResponse = Response | Exception
Handler = Callable[[str, dict[str, Any]], FakeResponse | Awaitable[FakeResponse]]


class FakeTransport:
    """An endpoint in this process: `handler` answers each request.

    Args:
        handler: Called with the URL and the request's JSON ({} for GET); returns a response, or `Lost` or `TimedOut` to
            have it raised. May be a coroutine function.

    Attributes:
        sent: (URL, request) of every POST, in order.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""

    async def post(self, url: str, body: bytes, timeout_s: float) -> Response:
        """Hand the request to the handler."""
        request = orjson.loads(body)
        self.sent.append((url, request))
        return await self._answer(url, request, timeout_s)

    async def get(self, url: str, timeout_s: float) -> Response:
        """Hand the request to the handler."""
        return await self._answer(url, {}, timeout_s)

    async def _answer(self, url: str, request: dict[str, Any], timeout_s: float) -> Response:
        answer = self._handler(url, request)
        if inspect.isawaitable(answer):
            try:
                answer = await asyncio.wait_for(answer, timeout_s)
            except TimeoutError:
                raise TimedOut(f"no reply within {timeout_s:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def completion(
    text: str, *, finish: str = "stop", tokens_in: int = 100, tokens_out: int = 50, **message: Any
) -> Response:
    """Return the response of a chat endpoint that answers `text`; for fakes.

    Args:
        text: The reply.
        finish: Finish reason.
        tokens_in: Prompt tokens in `usage`.
        tokens_out: Reply tokens in `usage`.
        message: More fields of the message.
    """
    body = {
        "object": "chat.completion",
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": finish}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out},
    }
    return Response(200, orjson.dumps(body), {"content-type": "application/json"})
