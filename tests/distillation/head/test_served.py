"""A head behind a fake /classify: the same scores as here, refused where the numbers are no scores."""

import json
from pathlib import Path

import numpy as np
import pytest

from mira.config.settings import EndpointSettings
from mira.distillation.head.bundle import read_head
from mira.distillation.head.served import ServedHead, is_softmax, served_head_settings
from mira.distillation.head.student import HeadStudent
from mira.errors import ConfigError, JudgeError
from mira.judging.judge import JudgeTask
from mira.llm.answer import Patience
from mira.llm.cost import Spending, SpendingStop
from mira.llm.journal.journal import Journal
from mira.unscored import Unscored
from support.encoder_case import corpus, record
from support.head_case import CHECK, ClassifyServer, classifying, head_bundle

RECORDS = [*corpus(12)[0], record("long", "source_A", "a word and then some. " * 40)]
QUICK = Patience(start_s=5, backoff_s=0.01)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return head_bundle(tmp_path_factory.mktemp("bundles") / "head")


def endpoint(server: ClassifyServer, **settings: object) -> EndpointSettings:
    return EndpointSettings(base_url=server.url, model="m", **{"max_retries": 2} | settings)


def scored(judge: ServedHead | HeadStudent) -> dict[str, tuple[object, ...]]:
    return {j.id: (*j.scores, j.overall, j.notes) for j in judge.judge(map(JudgeTask, RECORDS))}


def test_a_served_head_scores_as_the_same_head_here_and_is_asked_once(bundle: Path, tmp_path: Path) -> None:
    here = scored(HeadStudent(bundle, "onnx"))
    with classifying(bundle) as server, Journal(tmp_path) as journal:
        judge = ServedHead(bundle, endpoint(server, price_in=2, price_out=50), journal, patience=QUICK)
        served = scored(judge)
        assert len(server.requests) == len(RECORDS) + 1 and set(server.paths) == {"/classify"}
        assert all(request["use_activation"] is False for request in server.requests)
        read = sum(server.answer(request["input"])[1] for request in server.requests)
        assert (judge.stats.tokens_in, judge.stats.tokens_out) == (read, 0)
        assert judge.stats.cost == pytest.approx(read * 2 / 1e6), "a pooling model writes nothing"
        assert served == scored(ServedHead(bundle, endpoint(server), journal, patience=QUICK))
        assert len(server.requests) == len(RECORDS) + 1, "replies come from the journal"
    assert served.keys() == here.keys()
    for id, row in here.items():
        np.testing.assert_allclose(served[id][:-1], row[:-1], atol=1e-3)
        assert served[id][-1] == row[-1]
    assert any(note.startswith("cut:") for note in served["long"][-1])


def test_the_journal_keeps_one_short_line_of_numbers_per_record(bundle: Path, tmp_path: Path) -> None:
    with classifying(bundle) as server:
        with Journal(tmp_path) as journal:
            scored(ServedHead(bundle, endpoint(server), journal, patience=QUICK))
        with Journal(tmp_path) as journal:
            keys = [r.key for r in map(ServedHead(bundle, endpoint(server), journal)._request, map(JudgeTask, RECORDS))]
            replies = journal.find(keys)
    assert len(replies) == len(RECORDS)
    assert all(len(json.loads(reply.text)) == 4 and len(reply.text) < 50 for reply in replies.values())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("softmax", "between 0 and 1 and sum to 1"),
        ("other", "does not serve .*off by"),
        ("short", "answers with 3 numbers, the bundle has 4"),
    ],
)
def test_a_server_of_something_else_is_refused_before_the_first_record(
    bundle: Path, tmp_path: Path, how: str, said: str
) -> None:
    with classifying(bundle, how) as server:
        with Journal(tmp_path) as journal, pytest.raises(JudgeError, match=said) as error:
            scored(ServedHead(bundle, endpoint(server), journal, patience=QUICK))
        assert [request["input"] for request in server.requests] == [CHECK]
        assert how != "softmax" or "use_activation: false" in error.value.hint
        server.how = "right"  # and once it is served rightly, nothing of that is remembered
        with Journal(tmp_path) as journal:
            assert len(scored(ServedHead(bundle, endpoint(server), journal, patience=QUICK))) == len(RECORDS)


def test_a_replica_that_starts_to_softmax_is_refused_with_the_reason(bundle: Path, tmp_path: Path) -> None:
    with classifying(bundle, "late softmax") as server, Journal(tmp_path) as journal:
        with pytest.raises(JudgeError, match="a softmax over the slots"):
            scored(ServedHead(bundle, endpoint(server), journal, patience=QUICK))
        server.how = "right"
        assert len(scored(ServedHead(bundle, endpoint(server), journal, patience=QUICK))) == len(RECORDS)


def test_limits_and_offline_hold_for_a_head_as_for_every_judge(bundle: Path, tmp_path: Path) -> None:
    with classifying(bundle) as server:
        with Journal(tmp_path / "a") as journal, pytest.raises(SpendingStop):
            scored(ServedHead(bundle, endpoint(server), journal, spending=Spending(max_requests=5), patience=QUICK))
        assert len(server.requests) == 5
        with Journal(tmp_path / "b") as journal:
            judge = ServedHead(bundle, endpoint(server), journal, offline=True, patience=QUICK)
            reasons = {j.reason_unscored for j in judge.judge(map(JudgeTask, RECORDS))}
        assert reasons == {Unscored.NOT_RECORDED} and len(server.requests) == 5


def test_settings_without_meaning_for_a_head_are_refused(bundle: Path) -> None:
    given = EndpointSettings(base_url="http://localhost:1/v1", model="m", samples=3, logprobs=True)
    with pytest.raises(ConfigError, match="samples, logprobs"):
        served_head_settings(read_head(bundle), given)


def test_what_a_softmax_is() -> None:
    assert is_softmax([0.25, 0.5, 0.25]) and is_softmax([0.3335, 0.333, 0.333])
    assert not is_softmax([0.6, 0.6, -0.2]) and not is_softmax([0.2, 0.3]) and not is_softmax([1.0])
