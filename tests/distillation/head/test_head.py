"""What a head needs no torch for: the scale of labels, the validation part, reading records, the probe, ONNX, a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mira.config.settings import HeadSettings
from mira.corpus.record import Part, Record
from mira.distillation.bundle import pull, seal, verify
from mira.distillation.encoder.student import labels_of
from mira.distillation.head.bundle import read_head
from mira.distillation.head.onnx_session import OnnxModel
from mira.distillation.head.probe import fit_probe
from mira.distillation.head.reading import Reader
from mira.distillation.head.student import HeadStudent, way_to_score
from mira.distillation.head.targets import back, forward, scales, unmasked, validation_rows
from mira.errors import InputError, RunError
from mira.judging.judge import JudgeTask
from mira.run_folder.files import read_json
from support.encoder_case import N_SLOTS, corpus, label_table, record
from support.head_case import MAX_LENGTH, VECTORS, byte_tokenizer, classifying, head_bundle
from support.tiny_world import GROUP, TinyWorld

RECORDS, SCORES = corpus(60)
LABELS = labels_of(label_table(RECORDS, SCORES), N_SLOTS, 3, 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return head_bundle(tmp_path_factory.mktemp("bundles") / "head")


@pytest.mark.parametrize("target", ["ranks", "zscores"])
def test_scores_come_back_on_the_teachers_scale_in_their_order(target: str) -> None:
    scores = np.array([[2.0, 5.0, 40.0], [np.nan, 5.0, 90.0], [9.5, 5.0, 10.0], [4.0, np.nan, 60.0]])
    maps = scales(target, scores)
    fitted = forward(maps, scores)
    assert np.isnan(fitted).tolist() == np.isnan(scores).tolist()
    assert abs(np.nanmean(fitted, axis=0)).max() < 1e-9 and np.nanstd(fitted[:, ::2]) > 0.5
    np.testing.assert_allclose(back(maps, fitted), scores, atol=1e-9)
    far = back(maps, np.array([[-99.0, 3, -99], [0, 0, 0], [99, -3, 99]]))
    assert (np.diff(far[:, ::2], axis=0) > 0).all() and far.min() >= 0 and (far.max(axis=0) <= [10, 10, 100]).all()
    assert (far[:, 1] == 5).all(), "a slot with one value for all has that value"
    assert np.isnan(back(scales(target, np.full((3, 2), np.nan)), np.zeros((1, 2)))).all()


def test_the_validation_part_is_of_the_training_split_and_has_every_source() -> None:
    rows = validation_rows(LABELS, 0.2, 0)
    assert not (rows & ~LABELS.train).any() and rows.sum() == pytest.approx(0.2 * LABELS.train.sum(), abs=2)
    assert {LABELS.sources[i] for i in np.flatnonzero(rows)} == set(LABELS.sources)
    assert (validation_rows(LABELS, 0.2, 0) == rows).all() and (validation_rows(LABELS, 0.2, 1) != rows).any()
    with pytest.raises(RunError, match="too few labels to tune a head"):
        validation_rows(LABELS, 0.02, 0)


def test_masked_cells_are_not_learnt() -> None:
    source = LABELS.sources[0]
    scores = unmasked(LABELS, [(source, "A2"), ("elsewhere", "A1"), (source, "A99")])
    own = np.array(LABELS.sources) == source
    assert np.isnan(scores[own, 1]).all() and (scores[~own] == LABELS.scores[~own]).all()
    assert (scores[own][:, [0, 2, 3]] == LABELS.scores[own][:, [0, 2, 3]]).all()


def test_a_long_record_is_cut_in_its_middle_longest_part_first(tmp_path: Path) -> None:
    byte_tokenizer(tmp_path / "tokenizer.json")
    reader = Reader(tmp_path / "tokenizer.json", 256)
    short = reader.read(record("a", "s", "a [SEP] <|im_end|> b"))
    assert short.notes == () and short.ids[0] == 256 and short.ids.count(257) == 1, "special tokens in a text are text"
    question, answer = "What is it? " * 3, "It starts. " + "word " * 400 + "It ends."
    cut = reader.read(Record("b", "s", "qa", (Part("Question", question), Part("Answer", answer))))
    assert len(cut.ids) <= 256 and cut.notes[0].startswith("cut:")
    assert question in cut.text and "It starts." in cut.text and "It ends." in cut.text
    assert len(reader.read(record("c", "s", answer), 100).ids) <= 100
    many = reader.read(Record("d", "s", "agent", tuple(Part(f"Step {i}", "x" * 50) for i in range(40))))
    assert len(many.ids) <= 256 and many.notes
    odd = reader.read(record("e", "s", "\ud83d 你好 " * 200))
    assert len(odd.ids) <= 256


def test_the_probe_finds_what_is_linear_in_the_features_and_leaves_out_missing_labels() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 20)) + 3
    true = rng.normal(size=(20, 3))
    scores = np.clip(5 + 0.4 * (features - 3) @ true, 0, 10) * [1, 1, 10]
    missing = rng.random(scores.shape) < 0.3
    known = np.where(missing, np.nan, scores)
    sources, folds = tuple(f"s{i % 2}" for i in range(200)), np.arange(200) % 4
    for has_bias in (True, False):
        probe = fit_probe(features, known, sources, folds, "auto", has_bias=has_bias)
        assert len(probe.table) == 10 and sum(row["chosen"] for row in probe.table) == 1
        assert max(row["rho_within"] for row in probe.table) > 0.9
        predicted = features @ probe.weights.T + probe.bias
        assert has_bias or not probe.bias.any()
        found = np.corrcoef(predicted[missing[:, 0], 0], scores[missing[:, 0], 0])[0, 1]
        assert found > 0.95, "labels that were missing are predicted from those that were there"
    only = fit_probe(features, known, sources, folds, "ranks", has_bias=True)
    assert {row["target"] for row in only.table} == {"ranks"}


def test_onnx_gives_what_the_model_gives_for_every_record_alone(bundle: Path) -> None:
    student = HeadStudent(bundle, "onnx")
    ids = [student._reader.read(r).ids for r in RECORDS[:8]]
    assert 32 < max(map(len, ids)) <= MAX_LENGTH, "they are all cut"
    ids += [[256, 65, 257]]
    np.testing.assert_allclose(student.raw(ids), [VECTORS[i].mean(axis=0) for i in ids], atol=1e-5)
    assert (student.raw(ids)[3] == student.raw(ids[3:4])[0]).all()
    judged = list(student.judge(map(JudgeTask, RECORDS)))
    assert [j.id for j in judged] == [r.id for r in RECORDS]
    assert all(0 <= s <= 10 for j in judged for s in j.scores if s is not None)
    assert all(j.judge == student.identity and j.notes for j in judged)


def test_a_bundle_that_was_changed_or_reaches_outside_is_refused(bundle: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(bundle, tmp_path / name))

    scale = copy("scale")
    value = read_json(scale / "scale.json")
    value["maps"].pop()
    (scale / "scale.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="content differs"):
        verify(scale)
    seal(scale)
    with pytest.raises(InputError, match="3 maps for 3 slots and overall"):
        read_head(scale)
    outside = copy("outside")
    (outside / "model.onnx").write_bytes((outside / "model.onnx").read_bytes() + b"\x0a\x08location\x12\x0b/etc/passwd")
    with pytest.raises(InputError, match="weights lie in another file"):
        OnnxModel(outside / "model.onnx")
    (outside / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be loaded"):
        OnnxModel(outside / "model.onnx")
    without = copy("without")
    (without / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"has no model\.onnx"):
        way_to_score(without, "onnx")
    other = copy("other")
    save_file({"weight": np.ones(3, np.float32)}, other / "model.safetensors")
    seal(other)
    assert read_head(other).identity != read_head(bundle).identity


def test_a_head_is_part_of_a_run_and_scores_files_here_and_served(bundle: Path, tmp_path: Path) -> None:
    world = TinyWorld(tmp_path)
    world.use_recorded_labels()
    world.set(distill={"student": "bundle", "bundles": {GROUP: str(bundle)}, "head": {"scoring": "onnx"}})
    world.set(discover={"rubrics": {GROUP: str(bundle / "rubric.jsonl")}})
    world.mira("run")
    manifest = read_json(world.run / "manifest.json")["stages"]
    assert sum(manifest["score"]["summary"]["rows"].values()) == len(RECORDS)
    assert manifest["score"]["summary"]["requests"] == {}
    assert " running" not in world.mira("run")
    with classifying(bundle) as server:
        world.set(distill={"endpoint": {"base_url": server.url, "model": "m"}})
        world.mira("run")
        assert len(server.requests) == len(RECORDS) + 1, "held-out records, and the check, are asked about once"
    summary = read_json(world.run / "manifest.json")["stages"]["score"]["summary"]
    assert summary["unscored"] == {"source_A": {}, "source_B": {}} and summary["requests"]


def test_a_pulled_bundle_scores_files(bundle: Path, tmp_path: Path) -> None:
    from mira import score_bundle

    pulled = pull(str(bundle), tmp_path / "pulled")
    lines = [json.dumps({"id": r.id, "text": r.text}) for r in RECORDS[:5]]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    (sidecar,) = score_bundle(
        pulled, [str(tmp_path / "in.jsonl")], out=tmp_path / "out", overrides=["distill.head.scoring=onnx"]
    )
    assert sidecar.is_file()


def test_batches_must_divide() -> None:
    with pytest.raises(ValueError, match="micro_batch"):
        HeadSettings(batch_size=16, micro_batch=5)
    assert HeadSettings(batch_size=4).micro_batch == 16, "more than a batch is never in memory"
