"""An OpenAI-compatible /v1/embeddings endpoint, by option."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson

from mira.config.settings import EmbeddingSettings
from mira.embedding.embedder import CHARS_PER_TOKEN, Vectors, average, sample_slices
from mira.errors import ConfigError, JudgeError

__all__ = ["EndpointEmbedder"]

BATCH = 64
IN_FLIGHT = 4
RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


class EndpointEmbedder:
    """An embedding model behind an OpenAI-compatible endpoint.

    A long text is read at `settings.windows` evenly spaced slices of `settings.window_tokens` x 6 characters, and
    their vectors are averaged. Whether a vector depends on the batch is up to the server; most do not to 1e-3.

    Args:
        settings: `model` is the base URL ending in /v1.
        backoff_s: Seconds before the first retry; doubled each time, unless the server says Retry-After.

    Raises:
        ConfigError: `api_key_env` names a variable that is not set.
        JudgeError: The endpoint cannot be used.
    """

    def __init__(self, settings: EmbeddingSettings, backoff_s: float = 0.5) -> None:
        self._settings, self._backoff_s = settings, backoff_s
        self._base = settings.model.rstrip("/")
        self._headers = {"Content-Type": "application/json", **_authorization(settings.api_key_env)}
        self._model = settings.endpoint_model or self._only_model()
        self._chars = settings.window_tokens * CHARS_PER_TOKEN
        self.identity = f"endpoint:{self._base}:{self._model}:{settings.windows}x{settings.window_tokens}"
        self.dim = len(self._request(["dimension"])[0])

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
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            rows = np.array([row for reply in pool.map(self._request, batches) for row in reply], dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim or not np.isfinite(rows).all():
            raise JudgeError(f"{self._base}/embeddings: vectors are not {self.dim} finite numbers", "Check the model.")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return average((rows / np.where(norms > 0, norms, 1)).astype(np.float32), [len(p) for p in pieces])

    def _request(self, inputs: Sequence[str]) -> list[list[float]]:
        url = f"{self._base}/embeddings"
        reply = self._send(url, {"model": self._model, "input": list(inputs), "encoding_format": "float"})
        try:
            rows = sorted(reply["data"], key=lambda item: int(item["index"]))
            vectors = [row["embedding"] for row in rows]
            if [row["index"] for row in rows] != list(range(len(inputs))):
                raise ValueError(f"{len(rows)} vectors for {len(inputs)} texts")
        except (KeyError, TypeError, ValueError) as error:
            raise JudgeError(
                f"{url}: the reply is not understood: {error!r}", "The endpoint must speak OpenAI's /v1/embeddings."
            ) from None
        return vectors

    def _only_model(self) -> str:
        reply = self._send(f"{self._base}/models", None)
        try:
            names = [str(model["id"]) for model in reply["data"]]
        except (KeyError, TypeError) as error:
            raise JudgeError(
                f"{self._base}/models: the reply is not understood: {error!r}", "Set embedding.endpoint_model."
            ) from None
        if len(names) != 1:
            raise JudgeError(f"{self._base} serves {names}", "Set embedding.endpoint_model to one of them.")
        return names[0]

    def _send(self, url: str, body: dict[str, Any] | None) -> Any:
        error = ""
        for wait in [*self._waits(), None]:
            request = urllib.request.Request(url, orjson.dumps(body) if body else None, self._headers)
            try:
                with urllib.request.urlopen(request, timeout=self._settings.timeout_s) as response:
                    return orjson.loads(response.read())
            except urllib.error.HTTPError as failure:
                with failure:
                    error = f"HTTP {failure.code}: {failure.read(500).decode('utf-8', 'replace').strip()}"
                if failure.code not in RETRIED:
                    break
                asked = _seconds(failure.headers.get("Retry-After"))
            except orjson.JSONDecodeError as failure:
                error, asked = f"the reply is not JSON: {failure}", None
            except OSError as failure:
                error, asked = str(getattr(failure, "reason", failure)), None
            if wait is not None:
                time.sleep(wait if asked is None else asked)
        raise JudgeError(f"{url}: {error}", "Check the URL, the key and the model, then run again.") from None

    def _waits(self) -> Iterator[float]:
        return (min(30.0, self._backoff_s * 2**i) for i in range(self._settings.max_retries))


def _authorization(variable: str) -> dict[str, str]:
    if not variable:
        return {}
    key = os.environ.get(variable, "")
    if not key:
        raise ConfigError(
            f"embedding.api_key_env: environment variable {variable} is not set", f"export {variable}=..., then run."
        )
    return {"Authorization": f"Bearer {key}"}


def _seconds(value: str | None) -> float | None:
    return min(60.0, float(value)) if value is not None and value.strip().isdigit() else None
