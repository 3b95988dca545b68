"""The endpoint judge over real HTTP: scores, retries, resume, limits, keys."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from mira.config.settings import EndpointSettings
from mira.corpus.record import Part, Record
from mira.errors import ConfigError, JudgeError
from mira.family import FamilyName
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import JudgeTask
from mira.judging.prompt import build_prompt
from mira.llm.answer import Patience
from mira.llm.cost import Spending, SpendingStop
from mira.llm.journal.journal import Journal
from mira.progress import Quiet
from mira.rubric.judgement import Judgement
from mira.unscored import Unscored
from support.fault_server import NAMES, Faults, FaultServer, completion, number, record, reply_text, rubric, scores

IMPATIENT = Patience(start_s=1.0, outage_s=5.0, drain_s=5.0, backoff_s=0.02)


def settings(url: str | list[str], **more: Any) -> EndpointSettings:
    return EndpointSettings(base_url=url, model="fake", timeout_s=more.pop("timeout_s", 5.0), **more)


def judge(journal: Journal, url: str | list[str], name: str = "Dimension", **more: Any) -> EndpointJudge:
    options = {key: more.pop(key) for key in ("spending", "patience", "offline", "transport", "log") if key in more}
    r = rubric(name)
    prompt = build_prompt(r, slot_order=more.get("slot_order", "fixed"))
    return EndpointJudge(settings(url, **more), r, prompt, journal, **{"patience": IMPATIENT, **options})


def tasks(n: int, start: int = 0) -> list[JudgeTask]:
    return [JudgeTask(record(i)) for i in range(start, n)]


def run(folder: Path, url: str | list[str], wanted: list[JudgeTask], **more: Any) -> list[Judgement]:
    with Journal(folder) as journal:
        return sorted(judge(journal, url, **more).judge(wanted), key=lambda j: (j.id, j.replicate))


def _die_after(server: FaultServer, replies: int) -> None:
    while sum(server.answered.values()) < replies:
        time.sleep(0.01)
    server.die()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def test_replies_become_judgements(server: FaultServer, tmp_path: Path) -> None:
    judgements = run(tmp_path, server.url, tasks(20))
    assert [j.id for j in judgements] == [record(i).id for i in range(20)]
    for i, j in enumerate(judgements):
        assert j.scores == tuple(scores(f"record {i:06d} of s"))
        assert (j.overall, j.recommendation, j.domain_tag, j.brief) == (71, "keep", "test", "A record.")
        assert j.rationales[3] == "a reason of a few words"
        assert not j.missing
    assert len({j.judge for j in judgements}) == 1


def test_damage_to_the_journal_is_told_and_asked_again(server: FaultServer, tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Quiet):
        def note(self, text: str) -> None:
            notes.append(text)

    run(tmp_path, server.url, tasks(20))
    run(tmp_path, server.url, tasks(40), log=Notes())
    assert notes == []
    path = tmp_path / "replies.jsonl.zst"
    path.write_bytes(bytes(byte ^ (place == 40) for place, byte in enumerate(path.read_bytes())))
    run(tmp_path, server.url, tasks(40), log=Notes())
    assert [note for note in notes if f"{tmp_path}: 1 damaged" in note]
    assert set(server.answered.values()) == {1, 2}


def test_the_request_carries_sampling_and_extra_body(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def look(body: dict[str, Any], request: web.Request) -> None:
        seen.append(body)

    extra = {"chat_template_kwargs": {"enable_thinking": False}, "top_p": None, "structured_outputs": {"regex": "a+"}}
    with FaultServer(handler=look) as server:
        run(tmp_path, server.url, tasks(1), temperature=0.1, max_tokens=77, extra_body=extra)
    (body,) = seen
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "fake", "temperature": 0.1, "max_tokens": 77,
        "chat_template_kwargs": {"enable_thinking": False}, "structured_outputs": {"regex": "a+"},
    }  # fmt: skip
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == build_prompt(rubric()).system


def test_a_rerun_asks_nothing_and_needs_no_server(server: FaultServer, tmp_path: Path) -> None:
    first = run(tmp_path, server.url, tasks(300))
    assert sum(server.asked.values()) == 300
    server.die()
    assert run(tmp_path, server.url, tasks(300)) == first
    server.revive()
    run(tmp_path, server.url, tasks(310))
    assert sum(server.asked.values()) == 310


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.2},
        {"top_p": 0.5},
        {"max_tokens": 1000},
        {"extra_body": {"seed": 1}},
        {"name": "Measure"},
        {"slot_order": "permuted"},
        {"identity": "another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_what_decides_a_reply_asks_again(
    server: FaultServer, tmp_path: Path, change: dict[str, Any]
) -> None:
    before = run(tmp_path, server.url, tasks(10))
    after = run(tmp_path, server.url, tasks(10), **change)
    assert set(server.asked.values()) == {2}
    assert {j.judge for j in before}.isdisjoint(j.judge for j in after)
    run(tmp_path, server.url, tasks(10), **change)
    run(tmp_path, server.url, tasks(10))
    assert set(server.asked.values()) == {2}


def test_another_model_or_url_asks_again_and_a_named_identity_does_not(server: FaultServer, tmp_path: Path) -> None:
    with FaultServer() as other:
        run(tmp_path, server.url, tasks(5))
        run(tmp_path, other.url, tasks(5))
        assert (sum(server.asked.values()), sum(other.asked.values())) == (5, 5)
        run(tmp_path, server.url, tasks(5), identity="model@1")
        run(tmp_path, other.url, tasks(5), identity="model@1")
        assert (sum(server.asked.values()), sum(other.asked.values())) == (10, 5)
        run(tmp_path, [server.url, other.url], tasks(5))  # a replica behind the first
        assert (sum(server.asked.values()), sum(other.asked.values())) == (10, 5)
    with Journal(tmp_path) as journal:
        one = judge(journal, server.url)
        other_model = EndpointJudge(
            settings(server.url).model_copy(update={"model": "b"}), rubric(), build_prompt(rubric()), journal
        )
        assert one.identity != other_model.identity
        assert next(one.requests(tasks(1))).key != next(other_model.requests(tasks(1))).key


def test_what_does_not_decide_a_reply_changes_nothing(server: FaultServer, tmp_path: Path) -> None:
    before = run(tmp_path, server.url, tasks(5))
    after = run(tmp_path, server.url, tasks(5), max_concurrency=3, max_retries=1, price_in=3.0, timeout_s=4.0)
    assert before == after
    assert set(server.asked.values()) == {1}


def test_replicates_are_asked_apart_and_equal_requests_once(server: FaultServer, tmp_path: Path) -> None:
    twins = [JudgeTask(record(1)), JudgeTask(record(1)), JudgeTask(record(1), 1)]
    judgements = run(tmp_path, server.url, twins)
    assert [j.replicate for j in judgements] == [0, 0, 1]
    assert server.asked == {"record 000001 of s": 2}


def test_samples_are_averaged_and_the_first_digits_kept(tmp_path: Path) -> None:
    counter = itertools.count()
    lock = threading.Lock()

    def vary(body: dict[str, Any], request: web.Request) -> dict[str, Any]:
        with lock:
            score = [4, 6, 8][next(counter) % 3]
        lines = [f"[A{i}] {name}: {score}/10 — x" for i, name in enumerate(NAMES, 1)]
        return completion("\n".join(lines))

    with FaultServer(handler=vary) as server:
        (j,) = run(tmp_path, server.url, tasks(1), samples=3)
        assert j.scores == (6.0,) * 15
        assert j.raw_scores is not None
        assert j.raw_scores[0] in {4, 6, 8}
        assert "samples:3/3" in j.notes
        assert run(tmp_path, server.url, tasks(1), samples=3) == [j]
        run(tmp_path, server.url, tasks(1), samples=5)
    assert next(counter) == 5


def test_the_fault_mix_ends_with_a_reason_for_every_unscored_record(tmp_path: Path) -> None:
    faults = Faults(busy=0.01, broken=0.01, reset=0.005, hang=0.005, truncated=0.01, missing=0.01, overflow=0.002)
    n = 2000
    with FaultServer(faults, latency=0.005) as server:
        killer = threading.Timer(1.0, server.die)
        reviver = threading.Timer(1.6, server.revive)
        killer.start(), reviver.start()
        with Journal(tmp_path) as journal:
            endpoint = judge(journal, server.url, timeout_s=0.5, max_concurrency=128)
            judgements = list(endpoint.judge(tasks(n)))
            kept = len(journal)
        reviver.join()
    assert sorted(j.id for j in judgements) == [record(i).id for i in range(n)]
    unscored = Counter(j.reason_unscored for j in judgements if j.reason_unscored)
    assert unscored == {Unscored.OVERFLOW: unscored[Unscored.OVERFLOW]}
    assert 0 < unscored[Unscored.OVERFLOW] < 0.01 * n
    for j in judgements:
        absent = [f"A{i}" for i, s in enumerate(j.scores, 1) if s is None]
        assert sorted(j.missing) == sorted(absent)
    reasons = Counter(reason for j in judgements for reason in set(j.missing.values()))
    assert reasons[Unscored.TRUNCATED] > 0.003 * n
    assert reasons[Unscored.MISSING_SLOT] > 0.003 * n
    assert kept == n - unscored[Unscored.OVERFLOW]
    for what in ("HTTP 429", "HTTP 503", "timeout", "connection"):
        assert endpoint.stats.waits[what] > 0, what
    assert endpoint.stats.failures["s"] == {"overflow": unscored[Unscored.OVERFLOW]}


def test_a_request_that_always_fails_is_unscored_and_asked_again_next_time(tmp_path: Path) -> None:
    broken = True

    def fail(body: dict[str, Any], request: web.Request) -> web.Response | None:
        return web.Response(status=500, text="boom") if broken and "000003" in number(body) else None

    with FaultServer(handler=fail) as server:
        judgements = run(tmp_path, server.url, tasks(10), max_retries=2)
        assert [j.reason_unscored for j in judgements].count(Unscored.ENDPOINT_ERROR) == 1
        assert judgements[3].missing["A1"] is Unscored.ENDPOINT_ERROR
        failure = orjson.loads((tmp_path / "replies.failures.jsonl").read_bytes())
        assert (failure["for"], failure["attempts"]) == ("s/id-000003", 3)
        assert "boom" in failure["detail"]
        broken = False
        judgements = run(tmp_path, server.url, tasks(10), max_retries=2)
        assert not any(j.reason_unscored for j in judgements)
        assert sum(server.asked.values()) == 10


def test_a_429_storm_is_survived_and_throughput_is_back_within_seconds(tmp_path: Path) -> None:
    storm = threading.Event()
    times: list[float] = []

    def busy(body: dict[str, Any], request: web.Request) -> web.Response | None:
        if storm.is_set():
            return web.Response(status=429, headers={"Retry-After": "0.5"})
        times.append(time.monotonic())
        return None

    with FaultServer(latency=0.02, handler=busy) as server, Journal(tmp_path) as journal:
        endpoint = judge(journal, server.url, max_concurrency=64)
        threading.Timer(0.8, storm.set).start()
        threading.Timer(2.3, storm.clear).start()
        started = time.monotonic()
        judgements = list(endpoint.judge(tasks(4000)))
        assert sorted(j.id for j in judgements) == [record(i).id for i in range(4000)]
        assert not any(j.reason_unscored for j in judgements)
        assert len(journal) == 4000
        assert set(server.asked.values()) == {1}
    before = sum(0.3 < t - started < 0.8 for t in times) / 0.5
    later = [t for t in times if t - started > 2.3]
    back = next(t for t in later if sum(t <= other < t + 0.25 for other in later) / 0.25 > 0.7 * before)
    assert back - started - 2.3 < 3.0
    storm_requests = endpoint.stats.waits["HTTP 429"]
    assert 0 < storm_requests < 600  # a client that does not slow down sends thousands in these 1.5 seconds


def test_a_dead_replica_is_left_out_and_comes_back(tmp_path: Path) -> None:
    at_death: list[int] = []

    def rest() -> None:
        _die_after(two, 300)
        time.sleep(0.4)
        at_death.append(sum(two.answered.values()))
        two.revive()

    with FaultServer(latency=0.01) as one, FaultServer(latency=0.01) as two:
        dying = threading.Thread(target=rest)
        dying.start()
        judgements = run(tmp_path, [one.url, two.url], tasks(4000), max_concurrency=32)
        dying.join()
        assert not any(j.reason_unscored for j in judgements)
        assert len(judgements) == 4000
        total = sum(one.answered.values()) + sum(two.answered.values())
        assert 4000 <= total <= 4000 + 64  # what was in flight at the death is asked again
        assert sum(two.answered.values()) > at_death[0] + 300


def test_load_is_spread_over_replicas(tmp_path: Path) -> None:
    with FaultServer(latency=0.05) as one, FaultServer(latency=0.25) as two:
        run(tmp_path, [one.url, two.url], tasks(400), max_concurrency=32)
        fast, slow = sum(one.asked.values()), sum(two.asked.values())
        assert fast + slow == 400
        assert slow > 20
        assert fast > 1.3 * slow


@pytest.mark.parametrize(("status", "words"), [(401, "LLM_TEST_KEY"), (403, "LLM_TEST_KEY"), (404, "It offers: fake")])
def test_an_endpoint_that_cannot_be_used_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    monkeypatch.setenv("LLM_TEST_KEY", "sk-very-secret-key")

    def refuse(body: dict[str, Any], request: web.Request) -> web.Response:
        return web.Response(status=status, text=f'{{"error":{{"message":"no: {request.headers["Authorization"]}"}}}}')

    started = time.monotonic()
    with FaultServer(handler=refuse) as server, pytest.raises(JudgeError, match=words) as caught:
        run(tmp_path, server.url, tasks(100), api_key_env="LLM_TEST_KEY")
    assert time.monotonic() - started < 60  # the limit of an outage is ten minutes
    assert f"HTTP {status}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_rejects_everything_is_named_as_set_up_wrongly(tmp_path: Path) -> None:
    def refuse(body: dict[str, Any], request: web.Request) -> web.Response:
        return web.Response(status=400, text='{"error":{"message":"temperature is not supported"}}')

    with FaultServer(handler=refuse) as server, pytest.raises(JudgeError, match="temperature is not supported"):
        run(tmp_path, server.url, tasks(100))


@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html>\n<title>Welcome</title>\x1b[2J sk-very-secret-key" + 500 * "x", '"<html> <title>Welcome</title>'),
        ("{}", '"{}"'),
        ("", "an empty text"),
    ],
)
def test_what_is_no_chat_endpoint_at_all_is_told_with_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str, concurrency: int
) -> None:
    monkeypatch.setattr("mira.llm.limiter._PAUSE_S", 0.01)
    monkeypatch.setenv("LLM_TEST_KEY", "sk-very-secret-key")
    asked: list[str] = []

    def page(request: dict[str, Any], _: web.Request) -> web.Response:
        asked.append(number(request))
        return web.Response(status=200, text=body, content_type="text/html")

    started = time.monotonic()
    with FaultServer(handler=page) as server, pytest.raises(JudgeError, match=r"ends in /v1") as caught:
        run(tmp_path, server.url, tasks(100), api_key_env="LLM_TEST_KEY", max_concurrency=concurrency)
    assert time.monotonic() - started < 60  # the limit of an outage is ten minutes
    assert f"completion: {words}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(caught.value.message) < 300
    assert len(asked) <= 16


def test_a_page_among_replies_is_asked_again_then_counted_and_told(tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Quiet):
        def note(self, text: str) -> None:
            notes.append(text)

    pages: list[str] = []

    def page(body: dict[str, Any], request: web.Request) -> web.Response | None:
        if number(body) != "record 000030 of s":
            return None
        pages.append(number(body))
        return web.Response(status=200, text="<html>busy")

    with FaultServer(handler=page) as server:
        judgements = run(tmp_path, server.url, tasks(40), max_retries=2, log=Notes())
    assert len(pages) == 3
    assert [j.id for j in judgements if j.reason_unscored is Unscored.ENDPOINT_ERROR] == ["id-000030"]
    assert sum(j.reason_unscored is None for j in judgements) == 39
    failures = (tmp_path / "replies.failures.jsonl").read_text()
    assert 'HTTP 200, but not a completion: \\"<html>busy\\"' in failures
    told = [note for note in notes if "<html>busy" in note and "sent again" in note]
    assert len(told) == 1
    assert told[0].endswith("sent again so far: 1")


def test_no_server_is_told_within_the_start_time(server: FaultServer, tmp_path: Path) -> None:
    server.die()
    started = time.monotonic()
    with pytest.raises(JudgeError, match=r"no connection to .*\n.*Is the server running"):
        run(tmp_path, server.url, tasks(100))
    assert time.monotonic() - started < 60  # the limit of an outage is ten minutes
    server.revive()


def test_a_long_outage_stops_the_run_and_a_rerun_goes_on(server: FaultServer, tmp_path: Path) -> None:
    server.latency = 0.01
    threading.Thread(target=_die_after, args=(server, 300)).start()
    short = Patience(start_s=1.0, outage_s=1.0, drain_s=1.0, backoff_s=0.02)
    with pytest.raises(JudgeError, match="are in the journal"):
        run(tmp_path, server.url, tasks(20_000), patience=short, max_retries=1000)
    server.revive()
    with Journal(tmp_path) as journal:
        kept = len(journal)
    assert kept > 100
    answered = sum(server.answered.values())
    run(tmp_path, server.url, tasks(kept + 10))
    assert sum(server.answered.values()) - answered < 600


KEY = "sk-7f3a9c11-do-not-show-me"


def test_the_key_is_sent_and_never_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TEST_KEY", KEY)
    sent = set()

    def echo(body: dict[str, Any], request: web.Request) -> web.Response | dict[str, Any] | None:
        header = request.headers["Authorization"]
        sent.add(header)
        if number(body).startswith("record 000001"):
            return completion(f"your header was {header}\n{reply_text('x')}")
        if number(body).startswith("record 000002"):
            return web.Response(status=400, text=f'{{"error":{{"message":"bad header: {header}"}}}}')
        if number(body).startswith("record 000003"):
            return web.Response(status=500, text=f"Authorization: {header}", reason="oops " + KEY)
        return None

    with FaultServer(handler=echo) as server, Journal(tmp_path) as journal:
        endpoint = judge(journal, server.url, api_key_env="LLM_TEST_KEY", max_retries=1)
        judgements = list(endpoint.judge(tasks(10)))
        shown = repr(judgements) + repr(endpoint.stats.summary()) + endpoint.stats.line() + repr(vars(endpoint))
        found = journal.find([r.key for r in endpoint.requests(tasks(10))])
    assert sent == {f"Bearer {KEY}"}
    assert "***" in repr(found)
    assert KEY not in shown + repr(found)
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert all(KEY.encode() not in path.read_bytes() for path in files)
    assert "***" in (tmp_path / "replies.failures.jsonl").read_text()


def test_a_missing_key_and_a_key_in_the_url_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_TEST_KEY", raising=False)
    with pytest.raises(JudgeError, match="LLM_TEST_KEY, named by api_key_env, is not set"):
        run(tmp_path, "http://127.0.0.1:9/v1", tasks(1), api_key_env="LLM_TEST_KEY")
    for url in ("http://user:hunter2@host/v1", "http://host/v1?api-key=hunter2"):
        with pytest.raises(JudgeError, match="carries") as caught:
            run(tmp_path, url, tasks(1))
        assert "hunter2" not in str(caught.value)
    with pytest.raises(JudgeError, match="is not an HTTP URL"):
        run(tmp_path, "localhost:8000/v1", tasks(1))


def test_max_requests_stops_cleanly_and_a_rerun_goes_on(server: FaultServer, tmp_path: Path) -> None:
    done: list[Judgement] = []
    with Journal(tmp_path) as journal, pytest.raises(SpendingStop, match=r"100 requests were sent\n.*--max-requests"):
        for j in judge(journal, server.url, spending=Spending(max_requests=100)).judge(tasks(150)):
            done.append(j)  # noqa: PERF402
    assert len(done) == sum(server.asked.values()) == 100
    judgements = run(tmp_path, server.url, tasks(150), spending=Spending(max_requests=100))
    assert len(judgements) == 150
    assert set(server.asked.values()) == {1}


def test_max_cost_is_never_exceeded(server: FaultServer, tmp_path: Path) -> None:
    server.latency = 0.01
    spending = Spending(max_cost=0.5)  # a reply costs 0.003 + 0.002, and at most 0.003 + 0.0205
    with pytest.raises(SpendingStop, match="--max-cost"):
        run(tmp_path, server.url, tasks(500), spending=spending, price_in=3.0, price_out=10.0)
    assert 0.45 < spending.cost <= 0.5
    assert sum(server.answered.values()) == round(spending.cost / 0.005)


def test_an_interrupted_consumer_keeps_what_was_in_flight(server: FaultServer, tmp_path: Path) -> None:
    server.latency = 0.2
    with Journal(tmp_path) as journal:
        judgements = judge(journal, server.url, max_concurrency=16).judge(tasks(500))
        with pytest.raises(KeyboardInterrupt):
            for _ in judgements:
                raise KeyboardInterrupt
        judgements.close()  # type: ignore[attr-defined]
        kept = len(journal)
    assert kept == sum(server.answered.values()) == sum(server.asked.values())
    run(tmp_path, server.url, tasks(kept))
    assert set(server.asked.values()) == {1}


def test_tasks_are_pulled_lazily(server: FaultServer, tmp_path: Path) -> None:
    pulled = itertools.count()
    with Journal(tmp_path) as journal:
        stream = judge(journal, server.url, max_concurrency=4).judge(
            JudgeTask(record(next(pulled))) for _ in iter(int, 1)
        )
        for _ in range(100):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert next(pulled) < 3000


def test_an_error_of_the_tasks_is_passed_on(server: FaultServer, tmp_path: Path) -> None:
    def torn() -> Iterator[JudgeTask]:
        yield from tasks(256)
        while not server.answered:
            time.sleep(0.01)
        yield from tasks(512, 256)
        raise ValueError("the corpus is gone")

    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match="the corpus is gone"):
            list(judge(journal, server.url).judge(torn()))  # the error comes while a third chunk is read
        assert len(journal) == sum(server.answered.values()) > 0


def long_record(words: int) -> Record:
    text = "<<record 000000 of s>> " + " ".join(f"w{i}" for i in range(words))
    return Record("long", "s", FamilyName.TEXT, (Part("", text),))


def test_long_records_are_cut_before_they_are_sent(server: FaultServer, tmp_path: Path) -> None:
    (j,) = run(tmp_path, server.url, [JudgeTask(long_record(20_000))], max_model_len=8192)
    assert j.reason_unscored is None
    assert any(note.startswith("cut:") for note in j.notes)


def test_what_the_server_finds_too_long_is_cut_once_more(tmp_path: Path) -> None:
    lengths: list[int] = []

    def small(body: dict[str, Any], request: web.Request) -> web.Response | None:
        lengths.append(len(body["messages"][1]["content"]))
        if lengths[-1] < 12_000:
            return None
        text = "This model's maximum context length is 6000 tokens. However, you requested more."
        return web.Response(status=400, text=orjson.dumps({"error": {"message": text}}).decode())

    with FaultServer(handler=small) as server:
        (j,) = run(tmp_path, server.url, [JudgeTask(long_record(20_000))], max_tokens=1000)
        assert j.reason_unscored is None
        assert any(note.startswith("cut:") for note in j.notes)
        assert len(lengths) == 2
        assert run(tmp_path, server.url, [JudgeTask(long_record(20_000))], max_tokens=1000) == [j]
        assert sum(server.answered.values()) == 1


def test_what_does_not_fit_at_all_is_an_overflow(tmp_path: Path) -> None:
    def never(body: dict[str, Any], request: web.Request) -> web.Response:
        return web.Response(status=400, text='{"error":{"message":"exceeds the available context size"}}')

    with FaultServer(handler=never) as server:
        judgements = run(tmp_path, server.url, [JudgeTask(long_record(5000)), *tasks(3)])
    assert {j.reason_unscored for j in judgements} == {Unscored.OVERFLOW}


def test_a_context_without_room_for_a_record_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_model_len 2,500 leaves no room"):
        run(tmp_path, "http://127.0.0.1:9/v1", tasks(1), max_model_len=2500)


def test_refusals_are_refused_not_errors(tmp_path: Path) -> None:
    def refuse(body: dict[str, Any], request: web.Request) -> web.Response | dict[str, Any]:
        if "000000" in number(body):
            return completion("", "content_filter")
        if "000001" in number(body):
            answer = completion("")
            answer["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I will not."}
            return answer
        return web.Response(status=400, text='{"error":{"code":"content_filter","message":"flagged"}}')

    with FaultServer(handler=refuse) as server:
        judgements = run(tmp_path, server.url, tasks(40))
    assert {j.reason_unscored for j in judgements} == {Unscored.REFUSED}


def test_half_a_body_is_asked_again(tmp_path: Path) -> None:
    first: set[str] = set()

    def half(body: dict[str, Any], request: web.Request) -> web.Response | None:
        if number(body) in first:
            return None
        first.add(number(body))
        return web.Response(status=200, text='{"choices":[{"mess', content_type="application/json")

    with FaultServer(handler=half) as server:
        judgements = run(tmp_path, server.url, tasks(20))
    assert not any(j.reason_unscored for j in judgements)


def test_offline_uses_the_journal_alone(server: FaultServer, tmp_path: Path) -> None:
    run(tmp_path, server.url, tasks(5))
    server.die()
    judgements = run(tmp_path, server.url, tasks(8), offline=True)
    assert [j.reason_unscored for j in judgements] == [None] * 5 + [Unscored.NOT_RECORDED] * 3
    server.revive()


def test_the_garbage_collector_is_as_before_afterwards(server: FaultServer, tmp_path: Path) -> None:
    import gc

    before = gc.get_threshold()
    with Journal(tmp_path) as journal:
        stream = judge(journal, server.url).judge(tasks(3000))
        next(stream)
        assert gc.get_threshold()[0] > before[0]
        stream.close()  # type: ignore[attr-defined]
    assert gc.get_threshold() == before


def test_concurrency_stays_below_its_limit(server: FaultServer, tmp_path: Path) -> None:
    server.latency = 0.01
    run(tmp_path, server.url, tasks(500), max_concurrency=7)
    assert server.most == 7


def test_a_key_goes_in_the_header_and_query_that_a_gateway_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_TEST_KEY", KEY)
    monkeypatch.setenv("LLM_TEST_GATE", "gate-secret-77")
    seen: list[tuple[str, ...]] = []

    def answer(body: dict[str, Any], request: web.Request) -> web.Response | None:
        names = ("api-key", "X-Gate", "Authorization")
        seen.append((request.query_string, *(request.headers.get(name, "") for name in names)))
        if number(body).startswith("record 000001"):
            return web.Response(status=400, text='{"error":{"message":"you sent gate-secret-77"}}')
        return None

    with FaultServer(handler=answer) as server:
        more = {"api_key_env": "LLM_TEST_KEY", "api_key_header": "api-key", "headers": {"X-Gate": "LLM_TEST_GATE"}}
        run(tmp_path, f"{server.url}?api-version=2024-10-21", tasks(3), **more)
    assert set(seen) == {("api-version=2024-10-21", KEY, "gate-secret-77", "")}
    assert all(b"gate-secret" not in path.read_bytes() for path in tmp_path.iterdir())
    monkeypatch.delenv("LLM_TEST_GATE")
    with pytest.raises(JudgeError, match=r"LLM_TEST_GATE, named by headers\.X-Gate, is not set"):
        run(tmp_path / "other", server.url, tasks(1), **more)


@pytest.mark.parametrize("n", [1, 3])
def test_the_first_rejection_is_quoted_however_few(tmp_path: Path, n: int) -> None:
    notes: list[str] = []

    class Notes(Quiet):
        def note(self, text: str) -> None:
            notes.append(text)

    def refuse(body: dict[str, Any], request: web.Request) -> web.Response:
        return web.Response(status=400, text='{"error":{"message":"use max_completion_tokens"}}')

    with FaultServer(handler=refuse) as server:
        run(tmp_path, server.url, tasks(n), log=Notes())
    assert [note for note in notes if "HTTP 400: use max_completion_tokens" in note]


def test_a_key_that_is_revoked_in_mid_run_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mira.llm.sender._REFUSED_S", 0.5)
    monkeypatch.setenv("LLM_TEST_KEY", KEY)
    asked = itertools.count()

    def answer(body: dict[str, Any], request: web.Request) -> web.Response | None:
        return None if next(asked) < 5 else web.Response(status=401, text='{"error":{"message":"revoked"}}')

    with FaultServer(handler=answer) as server, pytest.raises(JudgeError, match=r"revoked\n.*\$LLM_TEST_KEY"):
        run(tmp_path, server.url, tasks(40), api_key_env="LLM_TEST_KEY", patience=Patience(backoff_s=0.02))


def test_a_firewall_that_refuses_one_record_ends_nothing(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], request: web.Request) -> web.Response | None:
        return web.Response(status=403, text="<html>blocked") if number(body).startswith("record 000030") else None

    with FaultServer(handler=answer) as server:
        judgements = run(tmp_path, server.url, tasks(40), max_retries=2)
    assert [j.id for j in judgements if j.reason_unscored] == ["id-000030"]


def test_errors_under_200_do_not_go_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mira.llm.sender._ERRORS_UNDER_200_S", 0.5)

    def answer(body: dict[str, Any], request: web.Request) -> dict[str, Any]:
        return {"error": {"message": "the model is not loaded"}}

    with FaultServer(handler=answer) as server, pytest.raises(JudgeError, match="the model is not loaded"):
        run(tmp_path, server.url, tasks(40), max_retries=50, patience=Patience(backoff_s=0.02))
