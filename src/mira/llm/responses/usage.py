"""What servers say of the tokens that a reply took: the names of all servers, in one table."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["billed_tokens", "read_usage"]

# To teach mira another name, add it to its row. A dot goes into a nested object.
_NAMES: dict[str, tuple[str, ...]] = {
    "in": ("prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount", "prompt_eval_count",
        "inputTokens", "promptTokens", "input_token_count", "tokens.input_tokens", "billed_units.input_tokens"),
    "out": ("completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount", "eval_count",
        "outputTokens", "completionTokens", "generated_token_count", "tokens.output_tokens",
        "billed_units.output_tokens"),
    "reasoning": (
        "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens", "reasoning_tokens",
        "thoughts_token_count", "thoughtsTokenCount", "completionTokensDetails.reasoningTokens", "reasoningTokens",
    ),
    "total": ("total_tokens", "total_token_count", "totalTokenCount", "totalTokens"),
}  # fmt: skip
_MOST = 1 << 31
_LONGEST_TOKEN = 16  # bytes a token on average; what says that its tokens are longer has not counted them (ours)
_PIECE = 3


def read_usage(usage: Any) -> tuple[int, int]:
    """Return (prompt tokens, reply tokens with those of thinking); 0 for what is missing or no count. Never raises."""
    if not isinstance(usage, Mapping):
        return 0, 0
    found = {what: _first(usage, names) for what, names in _NAMES.items()}
    out, reasoning = found["out"], found["reasoning"]
    # Most servers count thinking among the reply's tokens, some beside them: the total tells, or the larger part.
    if reasoning > out or (reasoning and found["total"] >= found["in"] + out + reasoning):
        out += reasoning
    return found["in"], out


def billed_tokens(
    said: tuple[int, int], sent: int, shown: str, most: int, count: Callable[[str], int] | None = None
) -> tuple[int, int]:
    """Return the tokens to pay for: what the server said where it can be, else an estimate.

    Args:
        said: What `read_usage` returned.
        sent: Prompt tokens as measured here.
        shown: The reply's text and thinking.
        most: Reply tokens that were allowed.
        count: Counts a text's tokens, for a reply without a count; by default a token per three bytes.

    Returns:
        (prompt tokens, reply tokens). A count that is missing, or far too small or large for the text, is estimated
        from the text; a reply is never more than was allowed, unless its text is.
    """
    tokens_in, tokens_out = said
    size = len(shown.encode("utf-8", "replace"))
    estimate = -(-size // _PIECE)
    if not sent // _LONGEST_TOKEN <= tokens_in <= 8 * sent + 4096 or not tokens_in:
        tokens_in = sent
    if tokens_out * _LONGEST_TOKEN < size or not tokens_out:
        tokens_out = estimate if count is None else count(shown)
    return tokens_in, min(tokens_out, max(most, estimate))


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        value: Any = usage
        for step in name.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if (count := _count(value)) is not None:
            return count
    return 0


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None
