"""OpenAI-compatible servers over real HTTP whose answers can be worked out by hand."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from support.fault_server import FaultServer, completion

LINES = ["H", "5", "4", "5", "3", "2", "4", "1", "4", "5", "3", "4", "5", "5"]


class DataManServer(FaultServer):
    """Rates a text by the digit after "quality": 1-5; 0 is answered with a line too few, 9 with no end.

    Args:
        rating: Another way to get from a text to such a digit.
    """

    def __init__(self, rating: Callable[[str], int] | None = None) -> None:
        super().__init__(handler=self._rate)
        self._rating = rating or (lambda text: int(text.split("quality")[1][0]))
        self.of_text: Counter[str] = Counter()

    def _rate(self, body: dict[str, Any], _request: web.Request) -> web.Response | dict[str, Any]:
        (message,) = body["messages"]
        assert message["role"] == "user"
        self.bodies.append(body)
        text = message["content"].split("Text: ")[1].split("\nDomain:_")[0]
        self.of_text[text] += 1
        overall = self._rating(text)
        if overall == 0:
            return completion("\n".join([*LINES[:6], *LINES[7:], "5"]))
        if overall == 9:
            return completion("\n".join(LINES[:9]), "length")
        if overall == 8:
            return web.Response(status=500, text="out of memory")
        return completion("\n".join(["C" if "court" in text else "H", *LINES[1:], str(overall)]))


class CompletionsServer(FaultServer):
    """A language model of characters: one token each, p = 1/2 for "a", 1/16 for others; the first has none.

    Args:
        echo: Speak the echo form instead of prompt_logprobs.
        context: Longest prompt in tokens.
        mute: Leave out the log-probabilities, as servers do that do not know the field.
    """

    def __init__(self, *, echo: bool = False, context: int = 10_000, mute: bool = False) -> None:
        super().__init__()
        self.echo, self.context, self.mute = echo, context, mute
        self.prompts: list[str] = []

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/completions", self._measure)

    async def _measure(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        prompt = body["prompt"]
        self.prompts.append(prompt)
        if len(prompt) > self.context:
            text = f'{{"error":{{"message":"This model\'s maximum context length is {self.context} tokens."}}}}'
            return web.Response(status=400, text=text)
        logprobs = [math.log(1 / 2 if c == "a" else 1 / 16) for c in prompt[1:]]
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length"}
        if not self.mute and self.echo and body.get("echo") and body.get("logprobs") is not None:
            choice |= {"text": prompt + "x", "logprobs": {"token_logprobs": [None, *logprobs, -0.5]}}
        elif not self.mute and not self.echo and body.get("prompt_logprobs") is not None:
            likelier = {"7": {"logprob": -0.01, "rank": 1}} if body["prompt_logprobs"] else {}
            own = [
                {**likelier, str(ord(c)): {"logprob": p, "rank": 2}} for c, p in zip(prompt[1:], logprobs, strict=True)
            ]
            choice |= {"logprobs": None, "prompt_logprobs": [None, *own]}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        return web.json_response({"object": "text_completion", "model": "fake", "choices": [choice], "usage": usage})
