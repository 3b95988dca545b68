"""Long records in windows: what is cut, what is put together, and what is asked and journalled."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from mira.config.settings import DistillSettings, EndpointSettings, WindowSettings
from mira.corpus.record import Part, Record
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import Judge, JudgeTask
from mira.judging.prompt import build_prompt
from mira.judging.windows import WindowedJudge, aggregate, combine, count_windows, windows_of
from mira.llm.answer import Patience
from mira.llm.journal.journal import Journal
from mira.rubric.judgement import Judgement, Recommendation
from mira.tokens import tokenizer
from mira.unscored import Unscored
from support.fault_server import FaultServer, rubric

SMALL = WindowSettings(tokens=64, overlap=16, max=50)
IMPATIENT = Patience(start_s=1.0, outage_s=5.0, drain_s=5.0, backoff_s=0.02)
WORDS = " ".join(f"word{i:04d}" for i in range(400))


def record(*parts: tuple[str, str], id: str = "r", family: str = "text") -> Record:
    return Record(id, "s", family, tuple(Part(*part) for part in parts))


def test_windows_cover_a_text_from_head_to_tail_and_overlap() -> None:
    found = windows_of(record(("", WORDS)), SMALL)
    counts = tokenizer("qwen3").count([w.text for w in found])
    assert len(found) > 10 and max(counts) <= 66 and len({w.id for w in found}) == len(found)
    assert found[0].text.startswith("word0000") and found[-1].text.endswith("word0399")
    text, end = WORDS, 0
    for window in found:  # every window begins before the last one ended
        at = text.index(window.text.strip()[:40])
        assert at <= end
        end = at + len(window.text)


def test_a_record_that_fits_is_itself_and_max_spreads_windows() -> None:
    short = record(("", "a few words"))
    assert windows_of(short, SMALL) == (short,)
    cyrillic = record(("", "слово " * 20))  # more bytes than the room, fewer tokens
    assert windows_of(cyrillic, SMALL) == (cyrillic,)
    found = windows_of(record(("", WORDS)), replace_settings(SMALL, max=3))
    assert len(found) == 3 and found[0].text.startswith("word0000") and found[-1].text.endswith("word0399")


def replace_settings(settings: WindowSettings, **more: object) -> WindowSettings:
    return WindowSettings(**{**settings.model_dump(), **more})


def test_the_other_parts_are_in_every_window_of_a_pair() -> None:
    found = windows_of(record(("Question", "What is said here?"), ("Answer", WORDS), family="qa"), SMALL)
    assert len(found) > 10
    assert {tuple(p.label for p in w.parts) for w in found} == {("Question", "Answer")}
    assert {w.parts[0].text for w in found} == {"What is said here?"}
    both = windows_of(record(("Question", WORDS), ("Answer", WORDS + " end"), family="qa"), SMALL)
    assert all(len(w.parts) == 2 and sum(tokenizer("qwen3").count([p.text for p in w.parts])) <= 80 for w in both)


def test_a_trace_is_cut_along_its_messages() -> None:
    parts = [(f"[{i}] user", f"message {i} " + "x " * 20) for i in range(12)]
    found = windows_of(record(*parts, family="agent"), SMALL)
    labels = [p.label for w in found for p in w.parts]
    assert labels[0] == "[0] user" and labels[-1] == "[11] user" and set(labels) == {p[0] for p in parts}
    assert all(w.parts for w in found) and max(len(w.parts) for w in found) < 6


def test_windows_are_counted_as_they_are_cut() -> None:
    texts = [WORDS[:n] for n in (10, 300, 700, 2000, 3500)]
    tokens = np.array(tokenizer("qwen3").count(texts), dtype=np.int32)
    cut = sum(len(windows_of(record(("", text)), SMALL)) for text in texts)
    assert count_windows(tokens, SMALL) == cut
    assert count_windows(tokens, replace_settings(SMALL, max=2)) == 1 + 2 * 4


def test_slots_are_taken_together_as_set() -> None:
    settings = replace_settings(SMALL, slots={"A2": "min", "A3": "max"})
    scores, spread = aggregate(np.array([[1, 1, 1, np.nan], [4, 4, 4, np.nan], [np.nan, 7, 7, np.nan]]), settings)
    assert scores[:3].tolist() == [2.5, 1, 7] and spread[0] == 1.5 and np.isnan(scores[3])


def judgement(i: int, score: float | None, why: Unscored | None = None, **more: object) -> Judgement:
    if why:
        return Judgement.unscored(f"r{i}", "s", 2, why)
    missing = {} if score is not None else {"A1": Unscored.MISSING_SLOT}
    return Judgement(f"r{i}", "s", (score, 5.0), missing=missing, **more)


def test_what_no_window_scores_stays_missing_with_its_reason() -> None:
    one = record(("", WORDS))
    found = combine(one, [judgement(0, None, overall=40.0), judgement(1, None, overall=60.0)], SMALL, "j")
    assert found.scores == (None, 5.0) and found.missing == {"A1": Unscored.MISSING_SLOT}
    assert found.overall == 50 and found.windows == 2 and found.notes == ("windows:2",) and found.spread == (None, 0.0)
    keep, drop = Recommendation.KEEP, Recommendation.DROP
    voted = [judgement(i, 1.0, recommendation=r) for i, r in enumerate((drop, keep, keep))]
    assert combine(one, voted, SMALL, "j").recommendation == keep
    assert combine(one, voted[:2], SMALL, "j").recommendation is None
    again = combine(one, [judgement(0, 3.0), judgement(1, None, Unscored.ENDPOINT_ERROR)], SMALL, "j")
    assert again.reason_unscored is Unscored.ENDPOINT_ERROR  # it is asked again, not averaged over what is there


class Lengths(Judge):
    """Scores a record by its characters; yields in reverse within batches of five."""

    identity, n_slots = "lengths", 2

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        batch: list[Judgement] = []
        for task in tasks:
            r = task.record
            batch.append(Judgement(r.id, r.source, (len(r.text) / 100, 1.0), overall=10.0, replicate=task.replicate))
            if len(batch) == 5:
                yield from reversed(batch)
                batch = []
        yield from reversed(batch)


def test_one_judgement_a_task_in_whatever_order_windows_come() -> None:
    long = [record(("", WORDS), id=f"long{i}") for i in range(4)]
    tasks = [JudgeTask(r, k) for r in (*long, record(("", "short"), id="short")) for k in range(2)]
    judge = WindowedJudge(Lengths(), SMALL)
    found = {(j.id, j.replicate): j for j in judge.judge(iter(tasks))}
    assert set(found) == {(t.record.id, t.replicate) for t in tasks}
    n = len(windows_of(long[0], SMALL))
    assert found["long0", 1].windows == n and found["long0", 1].spread is not None
    assert found["short", 0].windows == 1 and found["short", 0].spread is None
    assert {j.judge for j in found.values()} == {judge.identity} != {"lengths"}
    assert judge.identity != WindowedJudge(Lengths(), replace_settings(SMALL, max=4)).identity


def test_every_window_is_a_request_with_a_key_of_its_own(tmp_path: Path) -> None:
    rules = rubric("Dimension")
    text = " ".join(f"<<record {i:06d} of s>> some words" for i in range(80))  # the server answers by these marks
    one = JudgeTask(record(("", text)))
    n = len(windows_of(one.record, SMALL))

    def ask(url: str) -> list[Judgement]:
        with Journal(tmp_path) as journal:
            settings = EndpointSettings(base_url=url, model="fake", timeout_s=5.0)
            judge = EndpointJudge(settings, rules, build_prompt(rules, slot_order="fixed"), journal, patience=IMPATIENT)
            return list(WindowedJudge(judge, SMALL).judge([one]))

    with FaultServer() as server:
        first = ask(server.url)
        asked = sum(server.answered.values())
        assert asked == n > 10 and first[0].windows == n
        assert ask(server.url) == first and sum(server.answered.values()) == asked


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most half"):
        WindowSettings(tokens=100, overlap=80)
    with pytest.raises(ValidationError, match="whole records"):
        DistillSettings(student="head", windows=WindowSettings())
