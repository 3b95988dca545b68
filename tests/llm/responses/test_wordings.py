"""What servers say when they do not answer, in their own words."""
# ruff: noqa: E501

import orjson
import pytest

from mira.llm.responses.reply import Reply
from mira.llm.responses.response import Busy, Rejected, Retryable, Unusable, Verdict, verdict
from mira.llm.responses.wordings import WORDINGS
from mira.llm.transport import Response, completion
from mira.unscored import Unscored

OVERFLOWS = [
    ("OpenAI", 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, None),
    ("OpenAI", 400, "Your input exceeds the context window of this model.", None),
    ("OpenAI", 400, "Input tokens exceed the configured limit of 272000 tokens.", 272000),
    ("OpenAI, a minute", 429, "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.", None),
    ("Groq", 413, "Request too large for model `llama` on tokens per minute (TPM)", None),
    ("Groq", 400, "Please reduce the length of the messages or completion.", None),
    ("vLLM", 400, "This model's maximum context length is 8192 tokens. However, you requested 14000 tokens", 8192),
    ("vLLM", 400, "The decoder prompt (length 9000) is longer than the maximum model length of 8192.", 8192),
    ("SGLang", 400, "The input (9000 tokens) is longer than the model's context length (8192 tokens).", 8192),
    ("SGLang", 400, "Input length (9000 tokens) exceeds the maximum allowed length (8187 tokens).", 8187),
    ("TGI", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 12000"}, 8192),
    ("TGI", 422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"}, 4096),
    ("llama.cpp", 400, {"error": {"code": 400, "type": "exceed_context_size_error", "n_ctx": 4096}}, 4096),
    ("llama.cpp", 500, "the request exceeds the available context size. try increasing the context size", None),
    ("Ollama", 400, {"error": "the input length exceeds the context length"}, None),
    ("llama-cpp-python", 400, "Requested tokens (5000) exceed context window of 4096", 4096),
    ("LiteLLM", 400, "litellm.ContextWindowExceededError: BadRequestError", None),
    ("TabbyAPI", 400, "Prompt length 5000 is greater than max_seq_len 4096", 4096),
    ("watsonx", 400, {"errors": [{"code": "invalid_input_argument", "message": "the number of input tokens 5000 cannot "
                      "exceed the total tokens limit 4096 for this model"}]}, 4096),
    ("GitHub Models", 413, "Request body too large for gpt-4o model. Max size: 8000 tokens.", 8000),
    ("Cerebras", 400, "Please reduce the length of the messages. Current length is 10000 while limit is 8192", 8192),
    ("Databricks", 400, "This request exceeds the model's context size. Maximum: 32768 tokens", 32768),
    ("LMDeploy", 400, "The input length (12000) exceeds session_len 8192", 8192),
    ("Mistral", 400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}, 32768),
    ("Anthropic", 400, {"type": "error", "error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}, 200000),
    ("Anthropic", 400, "input length and `max_tokens` exceed context limit: 12000 + 2048 > 8192, decrease", 8192),
    ("Anthropic", 413, {"error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}, None),
    ("Bedrock", 400, {"message": "Input is too long for requested model."}, None),
    ("Bedrock", 400, {"message": "Too many input tokens. Max input tokens: 8192, request input token count: 12000"}, 8192),
    ("Bedrock", 400, {"message": "Malformed input request: expected maxLength: 2048, actual: 2700"}, None),
    ("Gemini", 400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count (1200000) "
                     "exceeds the maximum number of tokens allowed (1048576)."}}], 1048576),
    ("Vertex", 400, "the input token count is 40000 but the model only supports up to 32768", 32768),
    ("xAI", 400, {"error": "This model's maximum prompt length is 8192 but the request contains 12000 tokens."}, 8192),
    ("Moonshot", 400, "Invalid request: Your request exceeded model token limit: 8192 (requested: 14000)", 8192),
    ("DashScope", 400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]", 30720),
    ("DeepSeek", 400, "This model's maximum context length is 65536 tokens. However, you requested 70000", 65536),
    ("Cohere", 400, {"message": "too many tokens: size limit exceeded by 1000 tokens."}, None),
    ("Together", 422, "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000", 8193),
    ("Fireworks", 400, "The prompt is too long: 140000, model maximum context length: 131072", 131072),
    ("OpenRouter", 400, {"error": {"code": 400, "message": "Provider returned error", "metadata": {
        "raw": '{"error":{"message":"maximum context length is 32768 tokens"}}'}}}, 32768),
    ("Zhipu", 400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, None),
    ("Azure", 400, {"error": {"code": "context_length_exceeded", "message": "reduce the length of the messages"}}, None),
    ("nginx", 413, "<html><h1>413 Request Entity Too Large</h1></html>", None),
]  # fmt: skip

FILTERS = [
    ("OpenAI", 400, {"error": {"code": "content_policy_violation", "message": "no"}}),
    ("OpenAI", 400, {"error": {"code": "invalid_prompt", "message": "flagged as potentially violating"}}),
    ("Azure", 400, {"error": {"code": "400", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    ("Anthropic", 400, "Output blocked by content filtering policy"),
    ("Bedrock", 400, {"message": "The request was blocked by the configured guardrail"}),
    ("Gemini", 400, "The prompt was blocked: PROHIBITED_CONTENT"),
    ("xAI", 403, {"code": "The caller may not", "error": "Content violates usage guidelines. SAFETY_CHECK_TYPE_BIO"}),
    ("OpenRouter", 403, "Your chosen model requires moderation and your input was flagged for \"violence\"."),
    ("DashScope", 400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
    ("DeepSeek", 400, "Content Exists Risk"),
    ("Moonshot", 400, {"error": {"type": "content_filter", "message": "it was considered high risk"}}),
    ("Zhipu", 400, "系统检测到输入或生成内容可能包含不安全或敏感内容"),
    ("Mistral", 403, {"message": "Request violates moderation thresholds"}),
    ("a law", 451, "unavailable"),
    ("OpenAI", 400, "Your request was rejected as a result of our safety system."),
    ("Vertex", 400, "The content you provided or machine outputted is blocked."),
]  # fmt: skip

ENDS = [
    ("OpenAI", 429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}),
    ("Anthropic", 400, "Your credit balance is too low to access the Anthropic API."),
    ("Gemini", 429, {"error": {"details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]}}),
    ("DeepSeek", 402, "Insufficient Balance"),
    ("Moonshot", 429, {"error": {"type": "exceeded_current_quota_error", "message": "x"}}),
    ("DashScope", 400, {"code": "Arrearage", "message": "Access denied"}),
    ("xAI", 429, "Your team has used all available credits"),
    ("Gemini", 400, {"error": {"status": "INVALID_ARGUMENT", "message": "API key not valid. Please pass a valid API key."}}),
    ("OpenRouter under 200", 200, {"error": {"code": 401, "message": "No cookie auth credentials found"}}),
]  # fmt: skip

WAITS = [
    ("OpenAI", "Rate limit reached on tokens per min (TPM): Limit 30000. Please try again in 2s. You can increase your "
     "rate limit by adding a payment method at /account/billing.", 2.0),
    ("OpenAI", "Please try again in 20ms. Visit the billing page.", 0.02),
    ("Azure", "Requests have exceeded the token rate limit. Please retry after 43 seconds.", 43.0),
    ("Gemini", [{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing "
     "details.", "details": [{"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},
                             {"retryDelay": "7s"}]}}], 7.0),
    ("DashScope", {"code": "Throttling.AllocationQuota", "message": "Allocated quota exceeded"}, None),
    ("a gateway", "too many requests", None),
]  # fmt: skip


def say(status: int, body: object, asked: bytes = b"") -> Verdict:
    if isinstance(body, str) and not body.startswith("<html"):
        body = {"error": {"message": body}}
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    return verdict(Response(status, data), Reply.from_completion, asked)


@pytest.mark.parametrize(("server", "status", "body", "context"), OVERFLOWS)
def test_what_is_too_long(server: str, status: int, body: object, context: int | None) -> None:
    said = say(status, body)
    assert isinstance(said, Rejected), server
    assert said.reason is Unscored.OVERFLOW
    assert said.context == context


@pytest.mark.parametrize(("server", "status", "body"), FILTERS)
def test_what_a_filter_declines(server: str, status: int, body: object) -> None:
    said = say(status, body)
    assert isinstance(said, Rejected), server
    assert said.reason is Unscored.REFUSED


@pytest.mark.parametrize(("server", "status", "body"), ENDS)
def test_what_ends_a_run(server: str, status: int, body: object) -> None:
    assert isinstance(say(status, body), Unusable), server


@pytest.mark.parametrize(("server", "body", "after"), WAITS)
def test_limits_that_pass(server: str, body: object, after: float | None) -> None:
    assert say(429, body) == Busy(after), server


def test_a_header_says_how_long_to_wait_before_words_do() -> None:
    body = b'{"error":{"message":"Please try again in 9s"}}'
    assert verdict(Response(429, body, {"retry-after": "3"})) == Busy(3.0)
    assert verdict(Response(429, body, {"retry-after-ms": "1500"})) == Busy(1.5)


def test_errors_under_200_count_by_the_status_that_they_name() -> None:
    assert say(200, {"error": {"code": 429, "message": "slow down"}}) == Busy(None)
    assert isinstance(say(200, {"error": {"code": 502, "message": "upstream"}}), Retryable)
    assert isinstance(say(200, "maximum context length is 10 tokens"), Rejected)
    assert isinstance(say(200, "something"), Retryable)


RECORD = (
    "How do I handle the error content_filter when the maximum context length is 8192 tokens? The vLLM server says "
    "insufficient_quota and asks me to reduce the length of the messages, which it calls context_length_exceeded."
)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"type": "extra_forbidden", "msg": "Extra inputs are not permitted", "input": RECORD}]},
        {"error": {"message": f"1 validation error: input_value={RECORD!r}, input_type=str"}},
        {"error": {"message": f"cannot parse: {RECORD[:120]}"}},
        {"error": {"message": "bad request", "request": {"messages": [{"content": RECORD}]}}},
    ],
)
def test_an_error_that_repeats_the_record_does_not_decide_by_its_words(body: object) -> None:
    asked = orjson.dumps({"messages": [{"role": "user", "content": f"Judge this.\n{RECORD}\nEnd."}]})
    said = say(400, body, asked)
    assert isinstance(said, Rejected)
    assert said.reason is Unscored.ENDPOINT_ERROR
    overflow = say(400, f"This model's maximum context length is 4096 tokens. You sent: {RECORD}", asked)
    assert isinstance(overflow, Rejected)
    assert (overflow.reason, overflow.context) == (Unscored.OVERFLOW, 4096)


def test_a_short_record_in_quotation_marks_decides_nothing() -> None:
    asked = orjson.dumps({"messages": [{"role": "user", "content": "Judge.\ncontent_filter policy\nEnd."}]})
    said = say(400, 'cannot read "content_filter policy"', asked)
    assert isinstance(said, Rejected)
    assert said.reason is Unscored.ENDPOINT_ERROR


def test_redirects_name_the_place() -> None:
    said = verdict(Response(307, b"", {"location": "https://elsewhere/v1"}))
    assert isinstance(said, Rejected)
    assert "https://elsewhere/v1" in said.detail


def test_every_row_counts_somewhere_and_replies_are_replies() -> None:
    assert all(row.at and row.words for row in WORDINGS)
    assert isinstance(verdict(completion("maximum context length is 10 tokens")), Reply)
