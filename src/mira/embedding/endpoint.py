"""An OpenAI-compatible /v1/embeddings endpoint, by option."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from mira.config.settings import EmbeddingSettings, EndpointSettings
from mira.embedding.embedder import CHARS_PER_TOKEN, Vectors, average, sample_slices
from mira.errors import JudgeError
from mira.llm.answer import Failed, Patience
from mira.llm.cost import Spending
from mira.llm.request import Form, Request, about_tokens, base_urls
from mira.llm.responses.reply import Reply
from mira.llm.responses.response import listed_models
from mira.llm.sender import Sender
from mira.llm.stats import Stats
from mira.llm.transport import HttpTransport, Lost, TimedOut
from mira.urls import join_url, shown_url

__all__ = ["EndpointEmbedder"]

BATCH = 64
IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class _Rows(Reply):
    """A reply that holds vectors, one a text, in order."""

    rows: tuple[Sequence[float], ...] = ()


class EndpointEmbedder:
    """An embedding model behind an OpenAI-compatible endpoint.

    Requests go the way of the chat requests: the same transport, limits, retries and errors. A long text is read at
    `settings.windows` evenly spaced slices of `settings.window_tokens` x 6 characters, and their vectors are averaged.
    Whether a vector depends on the batch is up to the server; most do not to 1e-3.

    Args:
        settings: `model` is the base URL ending in /v1.
        backoff_s: Seconds before the first retry; doubled each time, unless the server says Retry-After.

    Raises:
        JudgeError: The endpoint cannot be used, or a variable that should hold a key is not set.
    """

    def __init__(self, settings: EmbeddingSettings, backoff_s: float = 0.5) -> None:
        self._settings, self._patience = settings, Patience(backoff_s=backoff_s)
        asked = EndpointSettings(
            base_url=settings.model, model=settings.endpoint_model, api_key_env=settings.api_key_env,
            api_key_header=settings.api_key_header, headers=settings.headers, timeout_s=settings.timeout_s,
            max_retries=settings.max_retries, max_concurrency=IN_FLIGHT,
        )  # fmt: skip
        self._urls = base_urls(asked, _FORM)
        self._base = shown_url(self._urls[0])
        self._transport = HttpTransport.of(asked, IN_FLIGHT, self._urls)
        self._asked = asked.model_copy(update={"model": settings.endpoint_model or asyncio.run(self._only_model())})
        self._chars = settings.window_tokens * CHARS_PER_TOKEN
        self.identity = f"endpoint:{self._base}:{self._asked.model}:{settings.windows}x{settings.window_tokens}"
        self.dim = len(asyncio.run(self._ask([["dimension"]]))[0])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), dim).

        Raises:
            JudgeError: The endpoint fails after all retries, or its reply is not understood.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        pieces = [sample_slices(text, self._settings.windows, self._chars) for text in texts]
        flat = [piece or " " for slices in pieces for piece in slices]  # servers refuse an empty input
        batches = [flat[i : i + BATCH] for i in range(0, len(flat), BATCH)]
        found = asyncio.run(self._ask(batches))
        if {len(row) for row in found} != {self.dim} or not np.isfinite(rows := np.array(found, np.float64)).all():
            raise JudgeError(f"{self._base}/embeddings: vectors are not {self.dim} finite numbers", "Check the model.")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return average((rows / np.where(norms > 0, norms, 1)).astype(np.float32), [len(p) for p in pieces])

    async def _ask(self, batches: Sequence[Sequence[str]]) -> list[Sequence[float]]:
        """Return the vectors of all batches, in order; at the first error the other requests are withdrawn."""
        await self._transport.start()
        try:
            sender = Sender(
                self._asked, self._urls, self._transport,
                spending=Spending(), stats=Stats(), patience=self._patience, find=_find_nothing, say=lambda _: None,
            )  # fmt: skip
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._rows(sender, number, batch)) for number, batch in enumerate(batches)]
        except* JudgeError as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._transport.stop()
        return [row for task in tasks for row in task.result()]

    async def _rows(self, sender: Sender, number: int, batch: Sequence[str]) -> Sequence[Sequence[float]]:
        body = orjson.dumps({"model": self._asked.model, "input": list(batch), "encoding_format": "float"})
        request = Request(
            number.to_bytes(8), body, sum(map(about_tokens, batch)), "embedding", f"texts {number * BATCH}", form=_FORM
        )
        result = (await sender.answer(request)).result
        url = f"{self._base}{_FORM.path}"
        if isinstance(result, Failed):
            raise JudgeError(f"{url}: {result.detail}", "Check the URL, the key and the model, then run again.")
        rows = result.rows if isinstance(result, _Rows) else ()
        if len(rows) != len(batch):
            raise JudgeError(
                f"{url}: the reply holds {len(rows)} vectors for {len(batch)} texts",
                "The endpoint must speak OpenAI's /v1/embeddings.",
            )
        return rows

    async def _only_model(self) -> str:
        url = f"{self._base}/models"
        hint = "Set embedding.endpoint_model."
        await self._transport.start()
        try:
            response = await self._transport.get(join_url(self._urls[0], "/models"), self._settings.timeout_s)
            names = listed_models(response)
        except (Lost, TimedOut) as error:
            raise JudgeError(f"{url}: cannot be reached: {error}", f"Is the server running? Or: {hint}") from None
        except ValueError as error:
            raise JudgeError(f"{url}: the reply (HTTP {response.status}) {error}", hint) from None
        finally:
            await self._transport.stop()
        if len(names) != 1:
            raise JudgeError(f"{self._base} serves {names}", "Set embedding.endpoint_model to one of them.")
        return names[0]


async def _find_nothing(_: bytes) -> Reply | None:
    return None


def _read(body: Mapping[str, Any]) -> Reply:
    """Read the body of a reply with embeddings.

    Raises:
        ValueError: It holds none.
    """
    try:
        data = sorted(body["data"], key=lambda item: int(item["index"]))
        if [item["index"] for item in data] != list(range(len(data))):
            raise ValueError("the vectors are not numbered from 0")
        return _Rows("", rows=tuple([float(x) for x in item["embedding"]] for item in data))
    except (KeyError, TypeError) as error:
        raise ValueError("not a list of embeddings") from error


_FORM = Form("/embeddings", "input", lambda _: {}, _read)
