"""Endpoints: where a model is served, and how it is asked."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mira.config.aliases import renamed
from mira.config.base import HEADER, Settings
from mira.config.paths import TokenizerPath

__all__ = ["DataManEndpoint", "EndpointSettings", "PplEndpoint", "refuse_without_effect"]


class EndpointSettings(Settings):
    """An OpenAI-compatible chat endpoint."""

    base_url: str | list[str]
    """Base URL ending in /v1. Several URLs are replicas of one model. A query such as ?api-version=... may follow."""
    model: str
    """Model name as the endpoint knows it."""
    identity: str = ""
    """Name of the served model, e.g. its revision. Replies are reused only under the same name. If empty, the
    first base URL is the name: set one if that URL may change while the model stays."""
    api_key_env: str = ""
    """Environment variable with the key. The key itself never goes in this file."""
    api_key_header: Annotated[str, Field(pattern=HEADER)] = "Authorization"
    """Header for the key: Authorization ("Bearer KEY"), or another one with the bare key, such as Azure's api-key."""
    headers: dict[Annotated[str, Field(pattern=HEADER)], str] = Field(default_factory=dict)
    """Further headers: name -> environment variable with its value, e.g. {X-Gateway-Key: GATEWAY_KEY}."""
    temperature: float = 0.7
    """Sampling temperature (the model card's value; 0 is greedy)."""
    top_p: float = 0.95
    """Nucleus sampling."""
    max_tokens: int = 2048
    """Maximum tokens of a reply."""
    max_model_len: int = 65536
    """The model's context length. Longer records are cut in the middle to fit."""
    tokenizer: TokenizerPath = "qwen3"
    """Tokenizer for measuring prompts: qwen3, cl100k_base, o200k_base, llama3, or a path to tokenizer.json."""
    extra_body: dict[str, object] = Field(default_factory=dict)
    """Sent with every request, e.g. {chat_template_kwargs: {enable_thinking: false}}."""
    logprobs: bool = False
    """Ask for token log-probabilities and use expected scores."""
    samples: int = Field(default=1, ge=1)
    """Replies sampled per record; scores are averaged."""
    slot_order: Literal["fixed", "permuted"] = "fixed"
    """Order of the slots in the prompt: fixed, as in the model card, or permuted by a hash of (record, replicate)."""
    max_concurrency: int = Field(default=256, ge=1)
    """Maximum requests in flight. The limiter finds the right number below it."""
    shared_by: int = Field(default=0, ge=0)
    """Workers of `mira work` that use this endpoint at once: each gets its share of max_concurrency. 0 means all of
    them, 1 means that every worker has a server of its own."""
    timeout_s: float = Field(default=600, gt=0)
    """Seconds to wait for one reply."""
    max_retries: int = Field(default=6, ge=0)
    """Retries of a request before it counts as failed."""
    price_in: float = Field(default=0, ge=0)
    """Price per million input tokens, in any currency."""
    price_out: float = Field(default=0, ge=0)
    """Price per million output tokens."""


def refuse_without_effect(settings: EndpointSettings, *names: str) -> None:
    """Refuse settings of an endpoint that would have no effect.

    Raises:
        ValueError: One is set.
    """
    fields = type(settings).model_fields
    given = [name for name in names if getattr(settings, name) != fields[name].default]
    if given:
        raise ValueError(f"{', '.join(given)}: without effect here; take it out")


class PplEndpoint(EndpointSettings):
    """A causal LM behind /v1/completions that returns the log-probabilities of a prompt. The values are ours."""

    logprobs_from: Literal["prompt_logprobs", "echo"] = renamed("logprobs_from", "form", default="prompt_logprobs")
    """Field of the request that asks for log-probabilities: prompt_logprobs (vLLM), or echo with logprobs (the OpenAI
    API of earlier years)."""
    max_tokens: int = 1
    """The API requires one generated token; it is ignored."""
    max_model_len: int = 8192
    """The model's context length. Of longer records, only the beginning is measured."""

    @model_validator(mode="after")
    def _nothing_is_sampled(self) -> "PplEndpoint":
        refuse_without_effect(self, "max_tokens", "temperature", "top_p", "samples", "logprobs", "slot_order")
        return self


class DataManEndpoint(EndpointSettings):
    """A served DataMan model: RuPeng/DataMan-1.5B-EN, -1.5B-ZH, -MoE-A2.7B-EN or -MoE-A2.7B-ZH on the hub."""

    temperature: float = 0.0
    """Sampling temperature (the paper's value)."""
    top_p: float = 1.0
    """Nucleus sampling."""
    max_tokens: int = 40
    """Maximum tokens of a reply; a whole reply has 29."""
    max_model_len: int = 4096
    """The model's context length. Records are cut to 1,894 tokens (the paper's value), or fewer to fit."""

    @model_validator(mode="after")
    def _one_reply(self) -> "DataManEndpoint":
        refuse_without_effect(self, "samples", "logprobs", "slot_order")
        return self
