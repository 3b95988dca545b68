"""A check of an endpoint that costs nothing: its list of models."""

import asyncio
import difflib

from mira.config import EndpointSettings
from mira.errors import JudgeError
from mira.judging._verdict import listed_models
from mira.judging.transport import HttpTransport, Lost, TimedOut

__all__ = ["check_endpoint"]

_TIMEOUT_S = 20.0


def check_endpoint(settings: EndpointSettings) -> list[str]:
    """Ask every replica for its models; nothing is generated.

    Returns:
        One line a replica.

    Raises:
        JudgeError: A replica cannot be reached, refuses the key, or does not serve the model.
    """
    urls = [settings.base_url] if isinstance(settings.base_url, str) else settings.base_url
    transport = HttpTransport(settings.api_key_env, len(urls), urls)
    return asyncio.run(_check_all(transport, [url.rstrip("/") for url in urls], settings.model))


async def _check_all(transport: HttpTransport, urls: list[str], model: str) -> list[str]:
    await transport.start()
    try:
        return [await _check(transport, url, model) for url in urls]
    finally:
        await transport.stop()


async def _check(transport: HttpTransport, url: str, model: str) -> str:
    try:
        response = await transport.get(f"{url}/models", _TIMEOUT_S)
    except Lost as error:
        raise JudgeError(
            f"{url}: cannot be reached: {error}", "Is the server running, and the address right?"
        ) from None
    except TimedOut:
        raise JudgeError(f"{url}: no answer within {_TIMEOUT_S:.0f} s", "Is the server still loading?") from None
    if response.status in (401, 403):
        raise JudgeError(f"{url}: the key is refused ({response.status})", "Check the variable that api_key_env names.")
    if response.status != 200:
        return f"{url} answers, but lists no models (status {response.status})"
    names = listed_models(response)
    if names and model not in names:
        close = difflib.get_close_matches(model, names, n=1) or names[:3]
        raise JudgeError(f"{url}: there is no model '{model}'", f"It serves: {', '.join(close)}")
    return f"{url} serves {model}" if names else f"{url} answers, but lists no models"
