"""A check of an endpoint that costs nothing: its list of models."""

import asyncio
import difflib
import re

from mira.config.settings import EndpointSettings
from mira.errors import JudgeError
from mira.llm.request import base_urls
from mira.llm.responses.response import listed_models
from mira.llm.transport import HttpTransport, Lost, TimedOut
from mira.urls import join_url, shown_url

__all__ = ["WARNING", "check_endpoint"]

WARNING = "warning: "
_TIMEOUT_S = 20.0
_IS_IT_RIGHT = "Check base_url: it usually ends in /v1."


def check_endpoint(settings: EndpointSettings) -> list[str]:
    """Ask every replica for its models; nothing is generated.

    Returns:
        One line per replica. It starts with `WARNING` if the replica responds but lists no models.

    Raises:
        JudgeError: A base URL is not valid; or a replica cannot be reached, refuses the key, does not serve the model,
            or is not a chat endpoint.
    """
    urls = base_urls(settings)
    transport = HttpTransport.of(settings, len(urls), urls)
    return asyncio.run(_check_all(transport, urls, settings.model))


def _same(model: str, listed: str) -> bool:
    """Whether servers that list one name accept the other.

    Gemini lists models/NAME, Ollama NAME:latest, routers NAME without :nitro, and proxies patterns such as openai/*.
    """
    if "*" in listed:
        pattern = re.escape(listed).replace(r"\*", ".*")
        return bool(re.fullmatch(pattern, model) or re.fullmatch(pattern.rpartition("/")[2], model))
    return _plain(model) == _plain(listed)


def _plain(name: str) -> str:
    head, _, tag = name.lower().removeprefix("models/").rpartition(":")
    return head if head and tag and "/" not in tag else name.lower().removeprefix("models/")


async def _check_all(transport: HttpTransport, urls: list[str], model: str) -> list[str]:
    await transport.start()
    try:
        return [await _check(transport, url, model) for url in urls]
    finally:
        await transport.stop()


async def _check(transport: HttpTransport, url: str, model: str) -> str:
    url, base = shown_url(url), url
    try:
        response = await transport.get(join_url(base, "/models"), _TIMEOUT_S)
    except Lost as error:
        raise JudgeError(
            f"{url}: cannot be reached: {error}", "Is the server running, and the address right?"
        ) from None
    except TimedOut:
        raise JudgeError(f"{url}: no answer within {_TIMEOUT_S:.0f} s", "Is the server still loading?") from None
    if response.status in (401, 403):
        raise JudgeError(f"{url}: the key is refused ({response.status})", "Check the variable that api_key_env names.")
    if response.status != 200:
        return f"{WARNING}{url} responds, but lists no models (status {response.status}): {_IS_IT_RIGHT}"
    try:
        names = listed_models(response)
    except ValueError as error:
        raise JudgeError(f"{url} responds, but its /models page {error}", _IS_IT_RIGHT) from None
    if names and model not in names:
        close = difflib.get_close_matches(model, names, n=1) or names[:3]
        if any(_same(model, name) for name in names):
            return f"{WARNING}{url} lists '{model}' only in another spelling: {', '.join(close)}"
        raise JudgeError(f"{url} does not serve model '{model}'", f"It serves: {', '.join(close)}")
    return f"{url} serves {model}" if names else f"{url} responds, but its list of models is empty"
