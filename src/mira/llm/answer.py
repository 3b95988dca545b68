"""The outcome of a request, and how long to wait for it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mira.llm.request import Request
from mira.llm.responses.reply import Reply
from mira.unscored import Unscored

__all__ = ["Answer", "Failed", "Patience"]


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no reply.

    Attributes:
        reason: OVERFLOW, REFUSED or ENDPOINT_ERROR; NOT_RECORDED if nothing was sent.
        detail: The last response or error, for people.
        attempts: How often the request was sent.
    """

    reason: Unscored
    detail: str
    attempts: int

    def line(self, key: bytes, tag: str) -> dict[str, Any]:
        """Return its line in the journal's file of failures."""
        failure = {"reason": str(self.reason), "detail": self.detail, "attempts": self.attempts}
        return {"key": key.hex(), "for": tag, **failure}


class Answer(NamedTuple):
    """The outcome of a request.

    Attributes:
        asked: The request.
        request: The request that was sent last: `asked`, or a smaller one that the server had room for.
        result: The reply, or the reason why there is no reply.
        fresh: Whether the reply is not in the journal yet.
    """

    asked: Request
    request: Request
    result: Reply | Failed
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for an endpoint, in seconds.

    Attributes:
        start_s: For the first answer of any kind, while connections are refused or lost.
        outage_s: For the next answer, after the last one.
        drain_s: For replies in flight when the work is stopped.
        backoff_s: Before a request is sent a second time; doubled with every further try, up to 30.
    """

    start_s: float = 20.0
    outage_s: float = 600.0
    drain_s: float = 60.0
    backoff_s: float = 0.5
