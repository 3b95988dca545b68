"""The pages of a review: who is there, the next card, and what was said of it."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mira.errors import InputError, MiraError
from mira.viewer.review.deck import Deck
from mira.viewer.site import site_of

__all__ = ["ROUTES"]

_LARGEST = 1 << 17  # bytes of a request


def _deck(request: Request) -> Deck:
    deck: Deck = request.app.state.deck
    return deck


def _card(request: Request) -> Response:
    """Show the next card, or ask who is there."""
    reviewer = request.query_params.get("reviewer", "")
    problem = ""
    if reviewer.strip():
        try:
            hand = _deck(request).hand(reviewer)
        except InputError as error:
            problem = str(error)
        else:
            return site_of(request).render(request, "card.html.j2", hand=hand)
    return site_of(request).render(request, "login.html.j2", problem=problem)


async def _judge(request: Request) -> Response:
    """Keep a judgement; the answer comes when it is on the disk."""
    try:
        given = await _body(request)
        await run_in_threadpool(_deck(request).judge, given)
    except MiraError as error:
        return JSONResponse({"problem": str(error)}, 400)
    except OSError as error:
        return JSONResponse({"problem": f"it cannot be written: {error.strerror}"}, 507)
    return JSONResponse({"saved": True})


async def _body(request: Request) -> Mapping[str, Any]:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _LARGEST:
            raise InputError("the request is too long", "Shorten the note.")
    try:
        value = orjson.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError("the request cannot be read", "Load the page again.")
    return value


ROUTES = [Route("/", _card), Route("/judge", _judge, methods=["POST"])]
