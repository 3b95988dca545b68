"""The failure budget: when a stage stops, what it says, and what it keeps."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mira.config.settings import EndpointSettings
from mira.errors import JudgeError
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import JudgeTask
from mira.judging.prompt import build_prompt
from mira.llm.failures import Failures, check_failures
from mira.llm.journal.journal import Journal
from mira.progress import Quiet
from mira.unscored import Unscored
from support.fault_server import FaultServer, completion, number, record, rubric

N = 300


def judge(journal: Journal, url: str, budget: float = 0.02, **more: Any) -> EndpointJudge:
    settings = EndpointSettings(base_url=url, model="fake", max_concurrency=4, **more)
    judge = EndpointJudge(settings, rubric(), build_prompt(rubric()), journal)
    judge.failures = Failures(N, budget, journal.folder)
    return judge


def tasks() -> list[JudgeTask]:
    return [JudgeTask(record(i)) for i in range(N)]


def test_a_teacher_that_cannot_follow_the_form_is_not_asked_to_the_end(tmp_path: Path) -> None:
    asked: list[str] = []

    def prose(body: dict[str, Any], _: web.Request) -> dict[str, Any]:
        asked.append(number(body))
        return completion("What a\nfine\x1b record. " + 500 * "x")

    with FaultServer(handler=prose, latency=0.02) as server, Journal(tmp_path / "journal") as journal:
        with pytest.raises(JudgeError) as caught:
            list(judge(journal, server.url).judge(tasks()))
        assert len(journal) == len(asked), "what was in flight is paid for, and kept"
    assert 20 <= len(asked) < N / 2
    message = caught.value.message
    assert "\n" not in message
    assert "\x1b" not in message
    assert 'A reply: "What a fine\N{REPLACEMENT CHARACTER} record. xxx' in message
    assert f"{tmp_path}/journal" in message
    assert "20 unparsable" in message
    assert "2.0% of 300" in message
    assert len(message) < 600
    assert "Inspect the replies" in caught.value.hint
    assert "Run again" not in caught.value.hint


def test_within_the_budget_every_record_is_asked(tmp_path: Path) -> None:
    def some(body: dict[str, Any], _: web.Request) -> dict[str, Any] | None:
        return completion("no") if int(number(body).split()[1]) % 50 == 0 else None

    with FaultServer(handler=some) as server, Journal(tmp_path) as journal:
        judgements = list(judge(journal, server.url).judge(tasks()))
    assert len(judgements) == N
    assert sum(j.reason_unscored is Unscored.UNPARSABLE for j in judgements) == N / 50


def test_what_is_not_recorded_costs_nothing_and_is_counted_to_the_end(tmp_path: Path) -> None:
    failures = Failures(N, 0.02, tmp_path)
    for _ in range(N):
        failures.add(Unscored.NOT_RECORDED)
    with pytest.raises(JudgeError, match=r"300 of 300 .*300 not_recorded") as caught:
        check_failures({"s": Counter(not_recorded=N)}, N, 0.02, Quiet(), failures.evidence)
    assert "--export FILE" in caught.value.hint
    assert "--import FILE" in caught.value.hint
    assert "Run again" not in caught.value.hint


def test_few_failures_do_not_stop_a_stage_early_however_small_it_is() -> None:
    failures = Failures(30, 0.0, Path("journal"))
    for _ in range(19):
        failures.add(Unscored.ENDPOINT_ERROR)
    with pytest.raises(JudgeError, match="of the first 20 records 20 stayed unscored"):
        failures.add(Unscored.ENDPOINT_ERROR)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Unscored.ENDPOINT_ERROR, "Run again to retry"),
        (Unscored.TRUNCATED, "raise max_tokens"),
        (Unscored.OVERFLOW, "max_model_len"),
        (Unscored.NO_NUMBER, "follow the form"),
    ],
)
def test_the_way_out_fits_the_reason(reason: Unscored, words: str) -> None:
    with pytest.raises(JudgeError, match=f"9 {reason}") as caught:
        check_failures({"s": Counter({str(reason): 9})}, 100, 0.02, Quiet())
    assert words in caught.value.hint
    assert ("Run again" in caught.value.hint) == (reason is Unscored.ENDPOINT_ERROR)
