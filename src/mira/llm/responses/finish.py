"""Why a reply ended: the words of all servers, in one table. To teach mira another word, add it to its row."""

import re
from enum import Enum

__all__ = ["Ending", "ending"]


class Ending(Enum):
    """What a finish reason means.

    Attributes:
        WHOLE: The model was done.
        CUT: A token limit was reached.
        REFUSED: The model or a filter declined.
        FAILED: The generation failed: what there is of it is no reply, and the request is sent again.
        UNKNOWN: The server gave none, or one that is in no row.
    """

    WHOLE = "whole"
    CUT = "cut"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"


# In lower case, words joined by "_".
_WORDS: dict[Ending, str] = {
    Ending.WHOLE: "stop end_turn stop_sequence stop_token eos eos_token complete completed finished end done",
    Ending.CUT: "length max_tokens model_length max_output_tokens max_length max_new_tokens max_completion_tokens "
    "token_limit output_token_limit length_capped context_length context_window_exceeded model_context_window_exceeded "
    "incomplete limit max_length_reached max_tokens_reached token_limit_reached time_limit not_finished pause_turn",
    Ending.REFUSED: "content_filter content_filtered safety refusal sensitive recitation blocklist prohibited_content "
    "spii language image_safety guardrail_intervened error_toxic moderation blocked content_policy_violation "
    "jailbreak",
    Ending.FAILED: "error abort aborted cancel cancelled canceled failed failure insufficient_system_resource "
    "network_error internal_error server_error timeout unavailable overloaded engine_overloaded rate_limit user_cancel "
    "error_limit malformed_response malformed_function_call "
    "unexpected_tool_call too_many_tool_calls interrupted preempted deadline_exceeded terminated "
    "service_unavailable",
}
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # maxTokens
_ENDINGS = {word: kind for kind, words in _WORDS.items() for word in words.split()}


def ending(reason: str) -> Ending:
    """Return what a server's finish reason means; case, hyphens and a class name before a dot do not matter."""
    word = _HUMP.sub("_", reason.strip().rpartition(".")[2]).casefold().replace("-", "_").replace(" ", "_")
    return _ENDINGS.get(word.removeprefix("finish_reason_"), Ending.UNKNOWN)
