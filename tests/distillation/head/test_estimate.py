"""What `mira plan` says of tuning: size from the files' headers, memory and time that grow as they should."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mira.config.settings import HeadSettings
from mira.distillation.head.estimate import Shape, estimate, read_shape
from support.tiny_world import TinyWorld

MINILM = Shape(22_700_000, 11_900_000, 384, 6)


def base(folder: Path) -> Path:
    folder.mkdir()
    tensors = {"embeddings.word_embeddings.weight": np.zeros((50, 8), "f4"), "layer.0.weight": np.zeros((8, 8), "f4")}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8, "num_hidden_layers": 1}))
    return folder


def test_a_models_size_is_read_from_its_headers(tmp_path: Path) -> None:
    assert read_shape(str(base(tmp_path / "base"))) == Shape(464, 400, 8, 1)
    assert read_shape("answerdotai/ModernBERT-base") is None
    (tmp_path / "base" / "config.json").write_text("{}")
    assert read_shape(str(tmp_path / "base")) is None


def test_memory_and_time_follow_the_settings() -> None:
    full = estimate(HeadSettings(max_length=128, epochs=3), MINILM, 200, 120, 2e10)
    assert 1e9 < full.memory < 3e9, "1.9 GB were measured"
    assert 30 < full.seconds < 300, "100 to 150 CPU seconds were measured"
    lora = estimate(HeadSettings(max_length=128, epochs=3, lora_rank=8), MINILM, 200, 120, 2e10)
    assert lora.memory < full.memory and lora.seconds < full.seconds
    twice = estimate(HeadSettings(max_length=128, epochs=6), MINILM, 200, 120, 2e10)
    assert twice.seconds == pytest.approx(2 * full.seconds)


def test_plan_says_it_and_counts_the_labels_that_are_there(tmp_path: Path) -> None:
    world = TinyWorld(tmp_path)
    world.use_recorded_labels()
    world.set(distill={"student": "head", "head": {"model": "nobody/nothing"}})
    assert "nobody/nothing is not a folder here" in " ".join(world.mira("plan").split())
    world.set(distill={"head": {"model": str(base(tmp_path / "base"))}})
    assert "tuning base (0.0M parameters, all parameters): about" in " ".join(world.mira("plan").split())
