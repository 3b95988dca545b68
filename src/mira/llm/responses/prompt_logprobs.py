"""How likely a text is under a causal LM behind `/v1/completions`: a request whose prompt is the text.

Two forms are spoken: vLLM's `prompt_logprobs`, and `echo` with `logprobs` as OpenAI's API had it. What is kept of a
reply is one sum, not the tokens: they would be many times the text.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple

import orjson

from mira.config.settings import EndpointSettings
from mira.llm.request import Form
from mira.llm.responses.finish import Ending, ending
from mira.llm.responses.reply import FailedReply, NoLogprobs, Reply
from mira.llm.responses.usage import read_usage

__all__ = ["Likelihood", "likelihood_form"]

_PATH = "/completions"


class Likelihood(NamedTuple):
    """A text's log-probability.

    Attributes:
        nats: Minus the sum of the natural log-probabilities of the measured tokens; NaN where one is not finite.
        measured: Tokens that have one: all but the first, which nothing stands before (a start token that the server
            adds is such a first one, and then every token of the text is measured).
    """

    nats: float
    measured: int

    @classmethod
    def of(cls, reply: Reply) -> "Likelihood":
        """Read what `likelihood_form` has kept of a reply."""
        nats, measured = orjson.loads(reply.text)
        return cls(float("nan") if nats is None else nats, measured)


def likelihood_form(kind: Literal["prompt_logprobs", "echo"]) -> Form:
    """Return the form of requests for a prompt's likelihood."""
    if kind == "echo":
        return Form(_PATH, "prompt", _echo_fields, _read_echo)
    return Form(_PATH, "prompt", _vllm_fields, _read_vllm)


def _vllm_fields(settings: EndpointSettings) -> dict[str, Any]:
    return {"model": settings.model, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def _echo_fields(settings: EndpointSettings) -> dict[str, Any]:
    return {"model": settings.model, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 0}


def _read_vllm(body: Mapping[str, Any]) -> Reply:
    """Read [null, {"<token id>": {"logprob", "rank", ...}, ...}, ...]."""
    choice = _choice(body)
    places = choice.get("prompt_logprobs")
    if not isinstance(places, list) or not places:
        raise NoLogprobs(
            "no prompt_logprobs in a completion: set select.ppl.endpoint.logprobs_from: echo, or serve with vLLM"
        )
    try:
        # A place holds the likeliest tokens, as many as were asked for, and the prompt's own, which has the last rank.
        own = [max(place.values(), key=lambda t: t.get("rank") or 0)["logprob"] for place in places if place]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not prompt_logprobs: {error!r}") from None
    return _kept(own, body)


def _read_echo(body: Mapping[str, Any]) -> Reply:
    """Read token_logprobs of prompt and generated tokens, [null, -1.2, ...]."""
    logprobs = _choice(body).get("logprobs")
    n_prompt, _ = read_usage(body.get("usage"))
    if not isinstance(logprobs, dict) or not isinstance(logprobs.get("token_logprobs"), list) or not n_prompt:
        raise NoLogprobs("no token_logprobs or no usage.prompt_tokens in a completion with echo")
    values = logprobs["token_logprobs"]
    if len(values) < n_prompt:
        raise NoLogprobs(f"token_logprobs of {len(values)} tokens, but the prompt has {n_prompt}: echo is ignored")
    return _kept([value for value in values[:n_prompt] if value is not None], body)


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        choice = body["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"not a completion: {error!r}") from None
    if not isinstance(choice, dict):
        raise ValueError("not a completion: a choice is not an object")
    if choice.get("error") or ending(str(choice.get("finish_reason"))) is Ending.FAILED:
        raise FailedReply(choice.get("error") or choice.get("finish_reason"), body.get("usage"))
    return choice


def _kept(logprobs: Sequence[Any], body: Mapping[str, Any]) -> Reply:
    tokens_in, tokens_out = read_usage(body.get("usage"))
    try:
        nats = -sum(map(float, logprobs))
    except (TypeError, ValueError) as error:
        raise ValueError(f"not log-probabilities: {error!r}") from None
    return Reply(
        orjson.dumps([nats if isfinite(nats) else None, len(logprobs)]).decode(),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        model=str(body.get("model") or ""),
    )
