import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.settings import DistillSettings
from mira.corpus.record import Record
from mira.distillation.encoder.agreement import spearman
from mira.distillation.encoder.cross_validation import BLOCKS
from mira.distillation.encoder.student import BATCH, Effort, EncoderStudent, labels_of, train_encoder
from mira.embedding import MiniLM
from mira.errors import InputError
from mira.judging.judge import JudgeTask
from mira.progress import Quiet
from mira.unscored import Unscored
from support.encoder_case import N_SLOTS, RUBRIC, corpus, label_table, record

SETTINGS = DistillSettings(folds=4)
EFFORT = Effort()
RECORDS, SCORES = corpus(180)
LABELS = label_table(RECORDS, SCORES)


def train(
    folder: Path,
    labels: pa.Table = LABELS,
    embedder: MiniLM | None = None,
    records: Iterable[Record] = RECORDS,
    effort: Effort = EFFORT,
    **settings: float,
) -> dict:
    used = SETTINGS.model_copy(update=settings)
    return train_encoder(labels, records, RUBRIC, embedder, used, 0, folder, Quiet(), effort)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "text_group_T"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def embedding_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that uses embeddings: every candidate but the last is out of the question."""
    folder = tmp_path_factory.mktemp("students") / "text_group_T"
    train(folder, embedder=MiniLM(2, 32, threads=1), effort=Effort(blocks=BLOCKS[-1:]))
    return folder


def column(folder: Path, file: str, name: str) -> np.ndarray:
    return np.asarray(pq.read_table(folder / file)[name].to_numpy())


def test_it_learns_what_can_be_learned_and_only_that(bundle: Path) -> None:
    quality, length, noise = (
        spearman(column(bundle, "out_of_fold.parquet", f"A{j + 1}"), SCORES[:, j]) for j in range(3)
    )
    assert quality > 0.5
    assert length > 0.9
    assert abs(noise) < 0.25
    overall = column(bundle, "out_of_fold.parquet", "overall")
    assert overall.min() >= 0 and 10 < overall.max() <= 100


def test_its_files_hold_every_label(bundle: Path) -> None:
    table = pq.read_table(bundle / "out_of_fold.parquet")
    assert table.column_names == ["id", "source", "A1", "A2", "A3", "overall", "fold", "split"]
    assert table["id"].to_pylist() == [r.id for r in RECORDS]
    assert set(table["fold"].to_pylist()) == {0, 1, 2, 3}
    held_out = pq.read_table(bundle / "held_out.parquet")
    assert held_out["id"].to_pylist() == [r.id for r in RECORDS[::5]]
    value = orjson.loads((bundle / "bundle.json").read_bytes())
    assert value["kind"] == "encoder" and value["rubric"] == RUBRIC.hash and value["embedder"] is None
    assert [row["chosen"] for row in value["cross_validation"]].count(True) == 1


def test_same_labels_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "bundle.json").write_text("{}")
    order = np.random.default_rng(1).permutation(len(LABELS))
    train(again, LABELS.take(pa.array(order)), records=(RECORDS[i] for i in order[::-1]))
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in bundle.iterdir())
    for path in bundle.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@pytest.mark.parametrize("kind", ["bundle", "embedding_bundle"])
def test_scores_do_not_depend_on_the_batch(kind: str, request: pytest.FixtureRequest) -> None:
    student = EncoderStudent.load(request.getfixturevalue(kind))
    together = student.predict(RECORDS[:40])
    alone = np.vstack([student.predict([r]) for r in RECORDS[:40]])
    pairs = np.vstack([student.predict(RECORDS[i : i + 7][::-1])[::-1] for i in range(0, 40, 7)])[:40]
    assert together.tobytes() == alone.tobytes() == pairs.tobytes()


def test_held_out_labels_do_not_enter_the_held_out_figures(bundle: Path, tmp_path: Path) -> None:
    changed = SCORES.copy()
    changed[::5] = 10 - changed[::5] / 10
    train(tmp_path / "s", label_table(RECORDS, changed))
    assert (tmp_path / "s" / "held_out.parquet").read_bytes() == (bundle / "held_out.parquet").read_bytes()
    choices = [orjson.loads((b / "bundle.json").read_bytes())["cross_validation"] for b in (bundle, tmp_path / "s")]
    assert choices[0] == choices[1]
    a1 = column(bundle, "out_of_fold.parquet", "A1")
    assert not np.array_equal(column(tmp_path / "s", "out_of_fold.parquet", "A1"), a1)


def test_a_record_is_not_predicted_from_its_own_label(bundle: Path, tmp_path: Path) -> None:
    changed = SCORES.copy()
    fold = column(bundle, "out_of_fold.parquet", "fold")
    changed[fold == 2, 0] = 10 - changed[fold == 2, 0]
    # One candidate, so that the labels cannot act through the choice either.
    single = Effort(blocks=BLOCKS[1:2])
    train(tmp_path / "one", effort=single)
    train(tmp_path / "two", label_table(RECORDS, changed), effort=single)
    one, two = (column(tmp_path / name, "out_of_fold.parquet", "A1") for name in ("one", "two"))
    np.testing.assert_array_equal(one[fold == 2], two[fold == 2])
    assert not np.array_equal(one[fold != 2], two[fold != 2])


def test_a_missing_score_is_masked_in_its_slot_alone(bundle: Path, tmp_path: Path) -> None:
    holes = SCORES.copy()
    holes[3::7, 0] = np.nan
    holes[:, 2] = np.nan
    summary = train(tmp_path / "s", label_table(RECORDS, holes))
    assert summary["labels"] == len(RECORDS)
    quality = spearman(column(tmp_path / "s", "out_of_fold.parquet", "A1"), SCORES[:, 0])
    assert quality > 0.5
    judgement = next(EncoderStudent.load(tmp_path / "s").judge([JudgeTask(RECORDS[0], 2)]))
    assert judgement.missing == {"A3": Unscored.NOT_FINITE}
    assert judgement.scores[2] is None and judgement.scores[0] is not None and judgement.replicate == 2


def test_replicates_are_averaged() -> None:
    second = label_table(RECORDS[:10], SCORES[:10] + 1, replicate=1)
    table = labels_of(pa.concat_tables([LABELS, second]), N_SLOTS, 4, 0)
    assert len(table) == len(RECORDS)
    np.testing.assert_allclose(table.scores[:10], SCORES[:10] + 0.5)
    np.testing.assert_allclose(table.scores[10:], SCORES[10:])


def test_it_judges_every_task_lazily_and_in_range(bundle: Path) -> None:
    student = EncoderStudent.load(bundle)
    taken = []

    def tasks():
        for i in range(600):
            taken.append(i)
            yield JudgeTask(record(f"id{i}", "unknown source", "word " * i + "x\n\n```" * (i % 3)))

    stream = student.judge(tasks())
    first = next(stream)
    assert len(taken) == BATCH and first.id == "id0" and first.judge == student.identity
    rest = list(stream)
    assert [j.id for j in rest] == [f"id{i}" for i in range(1, 600)]
    assert all(0 <= score <= 10 for j in rest for score in j.scores)
    assert list(student.judge([])) == [] and student.predict([]).shape == (0, N_SLOTS + 1)


def test_more_labels_than_landmarks_and_than_the_choice_takes(tmp_path: Path) -> None:
    small = Effort(choice_labels=120, choice_landmarks=90, landmarks=100)
    train(tmp_path / "s", records=iter(RECORDS), effort=small)
    assert spearman(column(tmp_path / "s", "out_of_fold.parquet", "A2"), SCORES[:, 1]) > 0.85
    held_out = column(tmp_path / "s", "held_out.parquet", "A2")
    assert spearman(held_out, SCORES[::5, 1]) > 0.85
    # one set of landmarks, the training split's, served both; the held-out figures still saw no held-out label
    changed = SCORES.copy()
    changed[::5] = 10 - changed[::5] / 10
    train(tmp_path / "t", label_table(RECORDS, changed), effort=small)
    np.testing.assert_array_equal(column(tmp_path / "t", "held_out.parquet", "A2"), held_out)


def test_damaged_bundles_are_refused(bundle: Path, tmp_path: Path) -> None:
    for name in ("weights.safetensors", "bundle.json", "rubric.jsonl"):
        copy = tmp_path / name.split(".")[0]
        shutil.copytree(bundle, copy)
        (copy / name).write_bytes((copy / name).read_bytes().replace(b"0", b"1", 1))
        with pytest.raises(InputError, match="content differs"):
            EncoderStudent.load(copy)


def test_another_embedder_is_refused(embedding_bundle: Path) -> None:
    with pytest.raises(InputError, match="2x32"):
        EncoderStudent.load(embedding_bundle, MiniLM(3, 64, threads=1))
    given = EncoderStudent.load(embedding_bundle, MiniLM(2, 32, threads=1))
    assert given.identity == EncoderStudent.load(embedding_bundle).identity


def test_labels_and_corpus_must_match(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 labelled records are not in the corpus"):
        train_encoder(LABELS, RECORDS[2:], RUBRIC, None, SETTINGS, 0, tmp_path / "s", Quiet())
    with pytest.raises(InputError, match="no scored label"):
        train(tmp_path / "s", label_table(RECORDS, np.full_like(SCORES, np.nan)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [2, 3, 7])
def test_few_labels_still_make_a_student(n: int, tmp_path: Path) -> None:
    train(tmp_path / "s", label_table(RECORDS[:n], SCORES[:n]))
    assert np.isfinite(EncoderStudent.load(tmp_path / "s").predict(RECORDS[:3])).all()
