"""Good replies with something odd beside their text: paid once, read right, and counted sanely."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from judging.test_endpoint import judge, run, tasks
from mira.llm.cost import Spending
from mira.llm.journal.journal import Journal
from mira.progress import Quiet
from mira.tokens import tokenizer
from support.fault_server import FaultServer, completion, number, reply_text, scores

BEYOND = 10**30
ABSURD: list[Any] = [
    {"prompt_tokens": -1, "completion_tokens": -(2**70)},
    {"prompt_tokens": BEYOND, "completion_tokens": BEYOND},
    {"prompt_tokens": 2**63, "completion_tokens": 2**64},
    {"prompt_tokens": 2**31, "completion_tokens": 2**31, "reasoning_tokens": 2**31, "total_tokens": 2**33},
    {"prompt_tokens": float("nan"), "completion_tokens": float("inf")},
    {"prompt_tokens": "9" * 5000, "completion_tokens": [1]},
    {"prompt_tokens": {"deep": []}, "completion_tokens": None},
    [1, 2],
    "many",
    7,
]


def _about(text: str) -> str:
    return number({"messages": [{"content": text}]})


def _send(body: dict[str, Any], before: bytes = b"", **options: Any) -> web.Response:
    return web.Response(body=before + json.dumps(body).encode(), content_type="application/json", **options)


def test_absurd_usage_takes_no_neighbours_commit_and_is_estimated(tmp_path: Path) -> None:
    """Replies are written together: those with absurd usage lie among others, and all of them survive."""
    wanted = tasks(3 * len(ABSURD))
    odd = {_about(wanted[3 * i].record.text): usage for i, usage in enumerate(ABSURD)}

    def handler(request: dict[str, Any], _: web.Request) -> web.Response:
        body = completion(reply_text(number(request)))
        body["usage"] = odd.get(number(request), {"prompt_tokens": 1000, "completion_tokens": 200})
        return _send(body)

    spending = Spending(max_cost=1.0)
    prices = {"price_in": 3.0, "price_out": 10.0, "tokenizer": "cl100k_base"}
    with FaultServer(handler=handler) as server:
        with Journal(tmp_path) as journal:
            client = judge(journal, server.url, spending=spending, max_tokens=900, **prices)
            requests = {_about(r.body.decode()): r for r in client.requests(wanted)}
            judgements = list(client.judge(wanted))
            stats = client.stats
        assert not any(j.reason_unscored for j in judgements)

        def counts(about: str) -> tuple[int, int]:
            """A number that may be one is bounded by what was allowed; any other is estimated from the text."""
            if about not in odd:
                return 1000, 200
            believable = odd[about] == ABSURD[3]
            (tokens,) = tokenizer("cl100k_base").count([reply_text(about)])
            return requests[about].tokens, 900 if believable else tokens

        tokens_in, tokens_out = map(sum, zip(*map(counts, requests), strict=True))
        assert (stats.tokens_in, stats.tokens_out) == (tokens_in, tokens_out)
        assert spending.cost == pytest.approx((3.0 * tokens_in + 10.0 * tokens_out) / 1e6)
        again = run(tmp_path, server.url, wanted, max_tokens=900, **prices)
    assert [j.scores for j in again] == [j.scores for j in sorted(judgements, key=lambda j: j.id)]
    with Journal(tmp_path) as journal:
        assert len(journal) == len(journal.find([r.key for r in requests.values()])) == 30
        kept = journal.find([r.key for r in requests.values()]).values()
        assert all(0 <= n <= 2**31 for reply in kept for n in (reply.tokens_in, reply.tokens_out))


ODD: dict[str, tuple[bytes, dict[str, Any], dict[str, str]]] = {
    "a header of 9 kB": (b"", {}, {"Content-Security-Policy": "x" * 9000}),
    "a byte order mark": (b"\xef\xbb\xbf", {}, {}),
    "NaN and infinities": (
        b"",
        {"usage": {"prompt_tokens": float("nan")}, "score": float("-inf"), "timings": [float("inf")]},
        {},
    ),
    "log-probabilities without a number": (
        b"",
        {"logprobs": {"content": [{"token": "x", "logprob": float("-inf"), "top_logprobs": None}]}},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_a_good_reply_is_paid_once_whatever_is_beside_its_text(kind: str, tmp_path: Path) -> None:
    before, fields, headers = ODD[kind]
    asked: Counter[str] = Counter()

    def handler(request: dict[str, Any], _: web.Request) -> web.Response:
        asked[number(request)] += 1
        body = completion(reply_text(number(request)))
        body["choices"][0]["logprobs"] = fields.get("logprobs")
        return _send(body | {k: v for k, v in fields.items() if k != "logprobs"}, before, headers=headers)

    with FaultServer(handler=handler) as server:
        judgements = run(tmp_path, server.url, tasks(5))
    assert [j.scores for j in judgements] == [tuple(scores(f"record {i:06d} of s")) for i in range(5)]
    assert set(asked.values()) == {1} and len(asked) == 5


class Notes(Quiet):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def _with_logprobs(text: str) -> dict[str, Any]:
    body = completion(text)
    tokens = [{"token": c, "logprob": -0.1, "top_logprobs": [{"token": c, "logprob": -0.1}]} for c in text]
    body["choices"][0]["logprobs"] = {"content": tokens}
    return body


@pytest.mark.parametrize(("asked", "given", "notes"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_missing_log_probabilities_are_noted_once(tmp_path: Path, asked: bool, given: bool, notes: int) -> None:
    def handler(request: dict[str, Any], _: web.Request) -> web.Response:
        assert ("logprobs" in request) is asked
        text = reply_text(number(request))
        return _send(_with_logprobs(text) if given else completion(text))

    log = Notes()
    with FaultServer(handler=handler) as server:
        judgements = run(tmp_path, server.url, tasks(20), log=log, logprobs=asked)
    assert [bool(j.raw_scores) for j in judgements] == [asked and given] * 20
    assert [j.scores for j in judgements] == [pytest.approx(scores(f"record {i:06d} of s")) for i in range(20)]
    said = [note for note in log.said if "without log-probabilities" in note]
    assert len(said) == notes
    assert all("logprobs: true" in note and "stay the digits as written" in note for note in said)
