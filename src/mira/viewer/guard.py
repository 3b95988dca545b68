"""The door: who may ask, and what pages may do.

- The server's own name must be asked for, so that a page elsewhere cannot reach it by pointing its domain here.
- A random token opens it. The first address has it; then a cookie does, which pages cannot read.
- A request that changes something must come from a page of this server.
- Pages load their own scripts and styles and nothing else; text that looks like a script stays text.
"""

import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["POLICY", "TOKEN", "Guard", "new_token"]

TOKEN = "token"
"""Name of the parameter that carries the token in the first address."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page."""

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_SAFE = ("GET", "HEAD")
_HERE = ("127.0.0.1", "localhost", "[::1]", "::1")


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


class Guard:
    """ASGI middleware: lets requests with the token in, and adds the headers that keep pages harmless.

    Args:
        app: The application.
        token: The token.
        hosts: Names of the server besides those of this machine; "*" for any.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str] = ()) -> None:
        self._app, self._token, self._hosts = app, token, {*_HERE, *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # websockets are not used
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        await self._answer(scope)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if "*" not in self._hosts and _name(host) not in self._hosts:
            return PlainTextResponse("This server does not go by that name.\n", 421)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == TOKEN]
        if given and scope["method"] in _SAFE and self._is_token(given[-1]):
            rest = urlencode([(name, value) for name, value in query if name != TOKEN])
            answer = RedirectResponse(f"/{scope['path'].lstrip('/')}{'?' if rest else ''}{rest}", 303)
            answer.set_cookie(_cookie(host), self._token, httponly=True, samesite="lax", path="/")
            return answer
        if not self._is_token(_cookies(headers.get("cookie", "")).get(_cookie(host), "")):
            return PlainTextResponse("Open the address that the command printed: it has the token.\n", 403)
        if scope["method"] not in _SAFE and urlsplit(headers.get("origin", "")).netloc != host:
            return PlainTextResponse("This request did not come from a page of this server.\n", 403)
        return self._app

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _name(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host


def _cookie(host: str) -> str:
    """Return the cookie's name: browsers share cookies between the ports of a machine."""
    port = host.rpartition(":")[2]
    return f"mira_view_{port if port.isdigit() else 80}"


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}
