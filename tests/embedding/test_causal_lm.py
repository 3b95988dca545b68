"""The middle layer of a real, tiny causal LM with random weights."""

from pathlib import Path

import numpy as np
import pytest

from mira.config.settings import DistillSettings, EmbeddingSettings
from mira.distillation.encoder.cross_validation import BLOCKS
from mira.distillation.encoder.student import Effort, EncoderStudent, train_encoder
from mira.embedding import load_embedder
from mira.errors import ConfigError
from mira.progress import Quiet
from support import tiny_lm
from support.encoder_case import RUBRIC, corpus, label_table

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="needs mira-select[train]")

RECORDS, SCORES = corpus(40)
TEXTS = ["", "def f(x): return x", *(record.text for record in RECORDS[:4]), "The quick brown fox. " * 400]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm.save(tmp_path_factory.mktemp("models") / "tiny", [r.text for r in RECORDS], num_hidden_layers=4)


def settings(model: Path, **more: float) -> EmbeddingSettings:
    return EmbeddingSettings(model=str(model), **{"layer": 0.5, "max_tokens": 64, **more})


def test_vectors_are_the_means_of_that_layers_states(model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole, tokenizer = AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    ids = tokenizer(TEXTS[-1], return_tensors="pt", truncation=True, max_length=64)["input_ids"]
    with torch.inference_mode():
        states = whole(input_ids=ids, output_hidden_states=True).hidden_states[2][0].mean(dim=0).numpy()
    found = load_embedder(settings(model)).embed(TEXTS)
    assert found[-1] == pytest.approx(states / np.linalg.norm(states), abs=1e-5)
    assert found.shape == (len(TEXTS), 64) and not found[0].any()
    np.testing.assert_allclose(np.linalg.norm(found[1:], axis=1), 1, atol=1e-5)


def test_a_vector_depends_on_its_text_alone_and_the_identity_on_what_it_follows_from(model: Path) -> None:
    embedder = load_embedder(settings(model))
    together = embedder.embed(TEXTS)
    alone = np.vstack([embedder.embed([text]) for text in TEXTS])
    assert together.tobytes() == alone.tobytes()
    others = [settings(model, layer=1.0), settings(model, max_tokens=32)]
    assert len({embedder.identity, *(load_embedder(s).identity for s in others)}) == 3


def test_a_student_reads_it(model: Path, tmp_path: Path) -> None:
    embedder = load_embedder(settings(model))
    effort = Effort(blocks=BLOCKS[2:])
    train_encoder(
        label_table(RECORDS, SCORES), RECORDS, RUBRIC, embedder, DistillSettings(), 0, tmp_path / "b", Quiet(), effort
    )
    student = EncoderStudent.load(tmp_path / "b", embedder)
    assert np.isfinite(student.predict(RECORDS[:5])).all()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load"):
        load_embedder(settings(tmp_path))
