import numpy as np
import pytest

from mira.config.settings import DistillSettings
from mira.corpus.record import Part, Record
from mira.distillation.encoder.detail import detail, detail_names
from mira.distillation.encoder.detail.outcome import OUTCOME, outcome
from mira.distillation.encoder.detail.prose import PROSE, prose
from mira.distillation.encoder.detail.syntax import SYNTAX, syntax
from mira.distillation.encoder.student import EncoderStudent, train_encoder
from mira.progress import Quiet
from mira.run_folder.files import read_json
from support.encoder_case import RUBRIC, corpus, label_table

CODE = '''"""Queues."""
import heapq

def push(heap: list, item: int, *, key=None) -> None:
    """Add an item."""
    for other in heap:
        if other == item:
            raise ValueError(f"{item} is there")
    heapq.heappush(heap, (key, item))

def test_push():
    heap = []
    push(heap, 417)
    assert heap
'''


def named(names: tuple[str, ...], values: list[float]) -> dict[str, float]:
    return dict(zip(names, values, strict=True))


def record(text: str, family: str = "text") -> Record:
    return Record("1", "s", family, (Part("", text),))


def test_syntax_reads_the_tree() -> None:
    found = named(SYNTAX, syntax(CODE))
    assert found["parsed"] == 1 and found["documented_module"] == 1
    assert found["nodes_function"] == pytest.approx(np.log(3)) and found["nodes_raise"] == pytest.approx(np.log(2))
    assert found["annotated"] == pytest.approx(2 / 3) and found["documented"] == 0.5
    assert found["tests"] == 0.5 and found["asserts_a_test"] == pytest.approx(np.log(2))
    assert found["magic_numbers"] == pytest.approx(np.log(2))  # 417
    fenced = named(SYNTAX, syntax(f"Look at this:\n\n```python\n{CODE}```\n"))
    assert fenced["parsed_fence"] == 1 and fenced["nodes_function"] == found["nodes_function"]
    prompt = named(SYNTAX, syntax("An example:\n\n>>> x = f(2)\n>>> x\n3\n"))
    assert prompt["parsed_prompt"] == 1 and prompt["nodes_call"] > 0


@pytest.mark.parametrize("text", ["Just prose, no code.", "word", "def f(:\n", "(" * 5000, "x = 1\0", "-" * 9000 + "1"])
def test_what_is_no_code_has_no_tree(text: str) -> None:
    found = named(SYNTAX, syntax(text))
    assert found["parsed"] == found["nodes"] == 0
    assert found["broken"] == float(text.startswith("def"))


def test_prose_counts_sentences_and_repetition() -> None:
    found = named(PROSE, prose("Run the tests. However, you must not skip one.\n\nRun the tests. Run the tests."))
    assert found["sentences"] == pytest.approx(np.log(5)) and found["words_connector"] > 0 < found["words_negation"]
    assert found["triples_repeated"] > 0.1 and found["sentences_verb_first"] == 0.75
    assert named(PROSE, prose("One sentence without an echo."))["triples_repeated"] == 0


def test_head_and_tail_are_told_apart() -> None:
    names = detail_names("text")
    even, turned = detail([record("word " * 400), record("word " * 200 + "{}[]<>" * 160)])
    at = names.index("tail_share_bracket")
    assert even[at] == 0 and turned[at] > 0.5


def trace(*messages: tuple[str, str]) -> tuple[Part, ...]:
    return tuple(Part(f"[{i}] {label}", text) for i, (label, text) in enumerate(messages))


def test_outcome_sees_untested_edits_and_the_last_word() -> None:
    edit = '<tool_call a> edit_file({"path": "a.py"})'
    test = '<tool_call b> bash({"command": "pytest -q"})'
    failing = trace(
        ("user", "Fix it."), ("assistant", edit), ("tool a", "ok"), ("assistant", test),
        ("tool b", "Traceback (most recent call last)\nAssertionError"), ("assistant", "Sorry, I was unable to."),
    )  # fmt: skip
    found = named(OUTCOME, outcome(failing))
    assert found["edits_untested"] == 0 and found["test_after_last_edit"] == 1
    assert found["last_test_failed"] == found["last_call_failed"] == found["last_word_failure"] == 1
    assert found["last_word_apology"] == 1 and found["failed_share"] == 0.5
    done = trace(("user", "Fix it."), ("assistant", edit), ("tool a", "ok"), ("assistant", "Done, it works."))
    found = named(OUTCOME, outcome(done))
    assert found["edits_untested_share"] == 1 and found["last_word_success"] == 1 and found["failed"] == 0
    assert np.isfinite(outcome(())).all()


def test_a_records_features_depend_on_it_alone_and_are_finite() -> None:
    texts = ["", "\ud800", "一二三。四五六。" * 40, CODE * 200, "a" * 100_000, "\0\n" * 500]
    records = [record(text) for text in texts]
    together = detail(records)
    assert together.shape == (6, len(detail_names("text"))) and np.isfinite(together).all()
    assert together.tobytes() == np.vstack([detail([r]) for r in records]).tobytes()
    agent = Record("1", "s", "agent", trace(("user", "Hi."), ("assistant", "Hello.")))
    assert detail([agent]).shape == (1, len(detail_names("agent"))) and len(detail_names("agent")) > together.shape[1]
    assert detail([]).shape == (0, 0)


def test_a_student_with_detail_goes_through_its_bundle(tmp_path) -> None:
    records, scores = corpus(60)
    settings = DistillSettings(detail=True, tolerance=0)
    train_encoder(label_table(records, scores), records, RUBRIC, None, settings, 0, tmp_path / "b", Quiet())
    facts = read_json(tmp_path / "b" / "bundle.json")
    assert facts["blocks"]["detail"] and facts["detail"] == list(detail_names("text"))
    student = EncoderStudent.load(tmp_path / "b")
    found = student.predict(records[:8])
    assert found.tobytes() == np.vstack([student.predict([r]) for r in records[:8]]).tobytes()
    assert np.isfinite(found).all()


def test_without_the_setting_a_bundle_says_nothing_of_it(tmp_path) -> None:
    records, scores = corpus(40)
    train_encoder(label_table(records, scores), records, RUBRIC, None, DistillSettings(), 0, tmp_path / "b", Quiet())
    facts = read_json(tmp_path / "b" / "bundle.json")
    assert "detail" not in facts and "detail" not in facts["blocks"]
