"""The whole road with real, randomly initialised base models: train, bundle, ONNX, score here, score served."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mira.config.settings import EndpointSettings, HeadSettings
from mira.distillation.bundle import verify
from mira.distillation.head.bundle import read_head
from mira.distillation.head.served import ServedHead
from mira.distillation.head.student import HeadStudent
from mira.distillation.head.train import train_head
from mira.errors import ConfigError
from mira.judging.judge import JudgeTask
from mira.llm.journal.journal import Journal
from mira.progress import QUIET, Quiet, Task
from mira.run_folder.files import read_json
from support import tiny_lm
from support.encoder_case import N_SLOTS, RUBRIC, corpus, label_table
from support.head_case import serving_outputs

tiny_lm.needs_training()
pytest.importorskip("onnx", reason="needs mira-select[train]")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

RECORDS, SCORES = corpus(60)
SETTINGS = {"max_length": 128, "epochs": 3, "learning_rate": 1e-3, "patience": 2}


def modernbert(folder: Path) -> Path:
    from transformers import ModernBertConfig, ModernBertForMaskedLM, set_seed

    tokenizer = tiny_lm.tokenizer([r.text for r in RECORDS])
    set_seed(0)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=512, local_attention=32, pad_token_id=tokenizer.pad_token_id, cls_token_id=1,
        sep_token_id=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    ModernBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen3(folder: Path) -> Path:
    return tiny_lm.save(folder, [r.text for r in RECORDS], context=512, intermediate_size=96)


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both bundles: an encoder tuned in full, and a causal LM tuned by LoRA."""
    folder = tmp_path_factory.mktemp("heads")
    made = {}
    for name, base, more in (("encoder", modernbert, {}), ("causal", qwen3, {"lora_rank": 4, "target": "ranks"})):
        made[name] = folder / name
        settings = HeadSettings(model=str(base(folder / f"base-{name}")), **SETTINGS | more)
        train_head(label_table(RECORDS, SCORES), RECORDS, RUBRIC, settings, 3, 0, {}, made[name], Quiet())
    return made


@pytest.mark.parametrize("name", ["encoder", "causal"])
def test_torch_onnx_and_a_server_give_the_same_scores(roads: dict[str, Path], name: str, tmp_path: Path) -> None:
    folder = roads[name]
    with_torch, without = HeadStudent(folder, "torch"), HeadStudent(folder, "onnx")
    expected = with_torch.predict(RECORDS)
    assert expected.shape == (len(RECORDS), N_SLOTS + 1) and np.isfinite(expected).all()
    assert expected[:, :-1].min() >= 0 and expected[:, :-1].max() <= 10 and expected[:, -1].max() <= 100
    if read_json(folder / "bundle.json")["onnx"]["weights"] == "float32":
        np.testing.assert_allclose(without.predict(RECORDS), expected, atol=1e-3 * 10)
    else:
        assert read_json(folder / "bundle.json")["onnx"]["largest_difference_from_torch"] < 1e-3

    def classify(text: str) -> list[float]:
        """What vLLM does: the bundle's own tokenizer and model, as transformers loads them, and raw outputs."""
        read = with_torch._reader._loaded.encode(text).ids
        return [float(v) for v in with_torch.raw([read])[0]]

    with serving_outputs(classify) as server, Journal(tmp_path) as journal:
        judge = ServedHead(folder, EndpointSettings(base_url=server.url, model="m"), journal)
        served = {j.id: (*j.scores, j.overall) for j in judge.judge(map(JudgeTask, RECORDS))}
    np.testing.assert_allclose([served[r.id] for r in RECORDS], expected, atol=1e-2)


@pytest.mark.parametrize("name", ["encoder", "causal"])
def test_the_bundle_is_a_plain_checkpoint_that_says_what_it_is(roads: dict[str, Path], name: str) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = roads[name]
    facts = verify(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "regression" and len(config["id2label"]) == N_SLOTS + 1
    assert not list(folder.glob("*.bin")) and (folder / "model.safetensors").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(model).__name__ == {
        "encoder": "ModernBertForSequenceClassification", "causal": "Qwen3ForSequenceClassification"
    }[name]  # fmt: skip
    assert read_json(folder / "tokenizer_config.json")["model_max_length"] == SETTINGS["max_length"]
    state = read_json(folder / "trainer_state.json")
    evaluated = [e["eval_rho_within"] for e in state["log_history"] if "eval_rho_within" in e]
    assert facts["validation"]["rho_within"] == pytest.approx(
        max(*evaluated, facts["validation"]["rho_within_before_tuning"])
    )
    assert facts["training"]["loss_last"] < facts["training"]["loss_first"]
    held_out = pq.read_table(folder / "held_out.parquet")
    assert set(held_out["split"].to_pylist()) == {"held_out"}
    assert f"{facts['held_out']['rho_within']:.3f}" in (folder / "README.md").read_text()
    assert {row["target"] for row in facts["cross_validation"]} == (
        {"zscores", "ranks"} if name == "encoder" else {"ranks"}
    )


def test_the_model_in_the_bundle_is_the_one_that_was_validated(roads: dict[str, Path]) -> None:
    """The validation rho can be had again from the bundle: the best checkpoint was kept, not the last."""
    from mira.distillation.encoder.student import labels_of
    from mira.distillation.head.targets import validation_rows
    from mira.distillation.head.trainer import Examples

    labels = labels_of(label_table(RECORDS, SCORES), N_SLOTS, 3, 0)
    rows = np.flatnonzero(validation_rows(labels, HeadSettings().validation, 0))
    by_id = {r.id: r for r in RECORDS}
    for folder in roads.values():
        student = HeadStudent(folder, "torch")
        raw = student.raw([student._reader.read(by_id[labels.ids[i]]).ids for i in rows])
        sources = tuple(labels.sources[i] for i in rows)
        rho = Examples(lambda _: [], raw, labels.scores[rows], sources).rho(raw)
        assert rho == pytest.approx(read_head(folder).facts["validation"]["rho_within"], abs=1e-6)


def test_held_out_labels_and_masked_cells_change_nothing(
    roads: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = roads["encoder"].parent / "base-encoder"
    settings = HeadSettings(model=str(base), **SETTINGS | {"onnx": False, "epochs": 1})
    masked = {(source, "A1"): "collapsed" for source in {r.source for r in RECORDS}}
    table = label_table(RECORDS, SCORES)
    held_out = np.array(table["split"].to_pylist()) == "held_out"
    order = {id: i for i, id in enumerate(table["id"].to_pylist())}
    other = SCORES.copy()
    rows = [order[r.id] for r in RECORDS]
    other[held_out[rows]] = 10 - other[held_out[rows]].clip(0, 10)
    other[~held_out[rows], 0] = 7.5
    for name, scores in (("as it is", SCORES), ("other", other)):
        train_head(label_table(RECORDS, scores), RECORDS, RUBRIC, settings, 3, 0, masked, tmp_path / name, Quiet())
    one, two = (tmp_path / n / "model.safetensors" for n in ("as it is", "other"))
    assert one.read_bytes() == two.read_bytes()
    assert np.isnan(HeadStudent(tmp_path / "other", "torch").predict(RECORDS[:2])[:, 0]).all(), "nothing was learnt"


class _Killed(BaseException):
    pass


class _KillingTask:
    def advance(self, amount: int = 1) -> None:
        pass

    def detail(self, text: str) -> None:
        if text.startswith("step 8/"):
            raise _Killed


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(roads: dict[str, Path], tmp_path: Path) -> None:
    base = roads["encoder"].parent / "base-encoder"
    settings = HeadSettings(model=str(base), **SETTINGS | {"onnx": False, "patience": 9})

    def train(folder: Path, log: Any) -> None:
        train_head(label_table(RECORDS, SCORES), RECORDS, RUBRIC, settings, 3, 0, {}, folder, log)

    class Killing(Quiet):
        """Ends the run in its last epoch."""

        @contextmanager
        def task(self, description: str, total: int | None = None) -> Iterator[Task]:
            yield _KillingTask() if description == "tuning the head" else QUIET

    train(tmp_path / "whole", Quiet())
    with pytest.raises(_Killed):
        train(tmp_path / "killed", Killing())
    work = tmp_path / ".killed.head"
    assert list((work / "trainer").glob("checkpoint-*")) and not (tmp_path / "killed").exists()
    train(tmp_path / "killed", Quiet())
    assert not work.exists()
    whole, resumed = (tmp_path / n / "model.safetensors" for n in ("whole", "killed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_what_cannot_be_a_base_model_is_named(tmp_path: Path, roads: dict[str, Path]) -> None:
    def train(**settings: Any) -> None:
        given = HeadSettings(**settings)
        train_head(label_table(RECORDS, SCORES), RECORDS, RUBRIC, given, 3, 0, {}, tmp_path / "head", Quiet())

    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"distill\.head\.model: cannot load"):
        train(model=str(tmp_path / "empty"))
    base = roads["encoder"].parent / "base-encoder"
    with pytest.raises(ConfigError, match="reads 512 tokens"):
        train(model=str(base), max_length=600)
    pickled = tmp_path / "pickled"
    shutil.copytree(base, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"distill\.head\.model: cannot load"):
        train(model=str(pickled), max_length=128)
