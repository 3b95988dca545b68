import numpy as np
import pyarrow as pa
import pytest

from mira.errors import RunError
from mira.reliability.evidence import Predictions, collect, read_labels, read_predictions
from support.simulate import ids, labels, predictions, shuffled

SCORES = {"b": np.arange(8.0).reshape(4, 2), "a": np.arange(10.0).reshape(5, 2)}


def gather(table, out_of_fold=None, held_out=None, sources=("b", "a", "c")):
    return collect("g", ("x", "y"), sources, table, Predictions(out_of_fold, held_out))


def test_labels_meet_their_predictions_in_any_order():
    predicted = {s: m + 0.5 for s, m in SCORES.items()}
    evidence = gather(shuffled(labels(SCORES)), shuffled(predictions(predicted), 1))
    assert [s.source for s in evidence.sources] == ["b", "a", "c"]
    assert evidence.cross_fitted
    for block in evidence.sources[:2]:
        assert block.ids == tuple(ids(block.source, len(block.ids)))
        np.testing.assert_array_equal(block.teacher, SCORES[block.source])
        np.testing.assert_array_equal(block.student, predicted[block.source])
        assert np.isnan(block.held_out).all()
    assert evidence.sources[2].teacher.shape == (0, 2)


def test_held_out_predictions_of_training_records_are_ignored():
    evidence = gather(labels(SCORES, held_out=0.5), held_out=predictions(SCORES))
    b = evidence.sources[0]
    assert not evidence.cross_fitted
    np.testing.assert_array_equal(b.held_out[:2], SCORES["b"][:2])
    assert np.isnan(b.held_out[2:]).all()
    np.testing.assert_array_equal(b.student, b.held_out)


def test_a_record_counts_by_its_first_scored_judgement_and_its_retests_are_kept():
    first = {"a": np.array([[1.0, 2.0], [np.nan, np.nan], [5.0, np.nan]])}
    again = {"a": np.array([[3.0, 4.0], [6.0, 7.0]])}
    block = gather(labels(first, again), predictions(first)).sources[1]
    np.testing.assert_array_equal(block.teacher, [[1, 2], [6, 7], [5, np.nan]])
    np.testing.assert_array_equal(block.retests[0], [[1, 2], [3, 4]])
    assert block.retests.shape == (2, 2, 2)


def test_verdicts_and_overall():
    table = labels(
        {"a": np.ones((4, 2))},
        overall={"a": [10, None, 30, 40]},
        recommendation={"a": ["keep", "drop", None, "downsample"]},
    )
    block = gather(table, predictions({"a": np.ones((4, 2))})).sources[1]
    np.testing.assert_array_equal(block.keep, [1, 0, np.nan, 0])
    np.testing.assert_array_equal(block.overall, [10, np.nan, 30, 40])


@pytest.mark.parametrize(
    ("table", "predicted", "sources", "message"),
    [
        (labels(SCORES), predictions(SCORES), ("b",), "not in the group: a"),
        (labels(SCORES), None, ("a", "b"), "no predictions"),
        (labels(SCORES), pa.concat_tables([predictions(SCORES)] * 2), ("a", "b"), "twice"),
        (labels(SCORES), predictions({"other": SCORES["a"]}), ("a", "b"), "no prediction of the student"),
        (labels({"a": np.ones((3, 3))}), predictions({"a": np.ones((3, 3))}), ("a",), "2 slots, the labels have 3"),
    ],
)
def test_what_does_not_belong_together_is_refused(table, predicted, sources, message):
    with pytest.raises(RunError, match=message):
        gather(table, predicted, sources=sources)


def test_missing_labels_and_foreign_predictions(tmp_path):
    with pytest.raises(RunError, match="mira label"):
        read_labels(tmp_path / "g.parquet")
    assert read_predictions(tmp_path / "none.parquet", ["A1"]) is None
    import pyarrow.parquet as pq

    pq.write_table(predictions(SCORES), tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet", ["A1", "A2"]).num_rows == 9
    with pytest.raises(RunError, match="mira distill"):
        read_predictions(tmp_path / "p.parquet", ["A1", "A2", "A3"])
