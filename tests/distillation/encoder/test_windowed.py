"""An encoder trained on the windows of long records."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mira.config.settings import DistillSettings, WindowSettings
from mira.corpus.record import Part, Record
from mira.distillation.encoder.student import EncoderStudent, train_encoder
from mira.judging.judge import JudgeTask
from mira.judging.windows import windows_of
from mira.progress import Quiet
from mira.run_folder.files import read_json
from support.encoder_case import RUBRIC, corpus, label_table

SETTINGS = DistillSettings(windows=WindowSettings(tokens=64, overlap=8, max=6))


def long_corpus() -> tuple[list[Record], np.ndarray]:
    records, scores = corpus(60)
    long = [r if i % 2 else Record(r.id, r.source, r.family, (Part("", r.text * 12),)) for i, r in enumerate(records)]
    return long, scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    records, scores = long_corpus()
    folder = tmp_path_factory.mktemp("students") / "b"
    train_encoder(label_table(records, scores), iter(records), RUBRIC, None, SETTINGS, 0, folder, Quiet())
    return folder, records


def test_every_record_has_one_prediction_whatever_its_windows(trained) -> None:
    folder, records = trained
    out = pq.read_table(folder / "out_of_fold.parquet")
    assert sorted(out["id"].to_pylist()) == sorted(r.id for r in records)
    assert read_json(folder / "bundle.json")["labels"] == len(records)
    assert read_json(folder / "bundle.json")["windows"]["tokens"] == 64


def test_scores_are_the_means_of_the_windows_with_their_spread(trained) -> None:
    folder, records = trained
    student = EncoderStudent.load(folder)
    assert student.windowed
    found = list(student.judge(JudgeTask(r) for r in records[:6]))
    for record, judgement in zip(records, found, strict=False):
        pieces = windows_of(record, SETTINGS.windows)
        assert judgement.windows == len(pieces)
        alone = student.predict(pieces)
        assert judgement.scores == pytest.approx(alone.mean(axis=0)[:-1])
        if len(pieces) > 1:
            assert judgement.spread == pytest.approx(alone.std(axis=0)[:-1])
        else:
            assert judgement.spread is None
    assert {j.windows > 1 for j in found} == {True, False}


def test_windows_change_the_identity_and_their_absence_leaves_no_trace(trained, tmp_path) -> None:
    records, scores = long_corpus()
    for name, settings in (
        ("whole", DistillSettings()),
        ("other", DistillSettings(windows=WindowSettings(tokens=64, overlap=0))),
    ):
        train_encoder(label_table(records, scores), records, RUBRIC, None, settings, 0, tmp_path / name, Quiet())
    assert "windows" not in read_json(tmp_path / "whole" / "bundle.json")
    students = [EncoderStudent.load(f) for f in (trained[0], tmp_path / "whole", tmp_path / "other")]
    assert len({s.identity for s in students}) == 3 and not students[1].windowed
    assert next(students[1].judge([JudgeTask(records[0])])).windows == 0
