"""The Python part of scripts/try-vllm-classify: tiny heads behind a real vLLM, beside themselves here."""

import argparse
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mira.config.settings import EndpointSettings, HeadSettings
from mira.distillation.bundle import seal
from mira.distillation.head.served import ServedHead
from mira.distillation.head.student import HeadStudent
from mira.distillation.head.train import train_head
from mira.errors import JudgeError
from mira.judging.judge import JudgeTask
from mira.llm.answer import Patience
from mira.llm.journal.journal import Journal
from mira.progress import Quiet
from support import tiny_lm
from support.encoder_case import RUBRIC, corpus, label_table

RECORDS, SCORES = corpus(60)


def modernbert(folder: Path) -> Path:
    """Write a randomly initialised ModernBERT; vLLM's CPU kernels want heads of 32 numbers or more."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM, set_seed  # noqa: PLC0415

    tokenizer = tiny_lm.tokenizer([r.text for r in RECORDS])
    set_seed(0)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=512, local_attention=32, pad_token_id=tokenizer.pad_token_id, cls_token_id=1,
        sep_token_id=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    ModernBertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen3(folder: Path) -> Path:
    """Write a randomly initialised Qwen3."""
    return tiny_lm.save(folder, [r.text for r in RECORDS], context=512, hidden_size=128, head_dim=32)


@contextmanager
def serve(python: Path, bundle: Path, port: int, log: Path) -> Iterator[str]:
    """Start vLLM on a bundle and yield its base URL."""
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", bundle, "--served-model-name", "head"]
    command += ["--runner", "pooling", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", "128", "--dtype", "float32"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=file)
    try:
        url, started = f"http://127.0.0.1:{port}/v1", time.monotonic()
        while process.poll() is None and time.monotonic() - started < 900:
            try:
                urllib.request.urlopen(f"{url}/models", timeout=5).close()
                print(f"  vLLM was up after {time.monotonic() - started:.0f} s")
                yield url
                return
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        raise SystemExit(f"vLLM did not come up:\n{log.read_text(errors='replace')[-3000:]}")
    finally:
        process.terminate()
        process.wait()


def try_one(name: str, bundle: Path, python: Path, port: int, folder: Path) -> None:
    """Score through the server, and say how far its scores are from those here."""
    expected = HeadStudent(bundle, "torch").predict(RECORDS)
    with serve(python, bundle, port, folder / f"{name}.log") as url, Journal(folder / f"{name}-journal") as journal:
        settings = EndpointSettings(base_url=url, model="head")
        judge = ServedHead(bundle, settings, journal, patience=Patience(start_s=30))
        started = time.monotonic()
        served = {j.id: (*j.scores, j.overall) for j in judge.judge(map(JudgeTask, RECORDS))}
        print(f"  {len(RECORDS)} records in {time.monotonic() - started:.1f} s: {judge.stats.summary()}")
        rows = np.array([served[r.id] for r in RECORDS], dtype=float)
        off = np.abs(rows - expected).max(axis=0)
        print(f"  largest difference from the scores here, per slot and overall: {np.round(off, 5).tolist()}")
        assert off[:-1].max() < 1e-2 and off[-1] < 0.1
        body = json.dumps({"model": "head", "input": RECORDS[0].text[:200], "use_activation": True}).encode()
        request = urllib.request.Request(f"{url[:-3]}/classify", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            print(f"  with use_activation: true it answers {json.loads(response.read())['data'][0]['probs']}")


def try_softmax(bundle: Path, python: Path, port: int, folder: Path) -> None:
    """Serve the same weights without `problem_type`, and say how mira takes it."""
    config = json.loads((bundle / "config.json").read_text())
    config.pop("problem_type")
    (bundle / "config.json").write_text(json.dumps(config))
    seal(bundle)
    with serve(python, bundle, port, folder / "softmax.log") as url, Journal(folder / "softmax-journal") as journal:
        extra = {"use_activation": None}  # left to the server
        judge = ServedHead(bundle, EndpointSettings(base_url=url, model="head", extra_body=extra), journal)
        try:
            list(judge.judge(map(JudgeTask, RECORDS[:2])))
            print("  without problem_type and use_activation the numbers were still raw")
        except JudgeError as error:
            print(f"  without problem_type and use_activation, refused: {error}")


def main() -> None:
    """Tune, serve, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=Path(".venv-vllm/bin/python"), help="a Python that has vLLM")
    parser.add_argument("--port", type=int, default=8766)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (kind, base) in enumerate((("modernbert", modernbert), ("qwen3", qwen3))):
            print(f"{kind}:")
            settings = HeadSettings(
                model=str(base(folder / f"base-{kind}")), max_length=128, epochs=2, learning_rate=1e-3, onnx=False
            )
            bundle = folder / kind
            train_head(label_table(RECORDS, SCORES), RECORDS, RUBRIC, settings, 3, 0, {}, bundle, Quiet())
            try_one(kind, bundle, arguments.python, arguments.port + number, folder)
        print("qwen3 with a softmax:")
        try_softmax(folder / "qwen3", arguments.python, arguments.port + 2, folder)


if __name__ == "__main__":
    main()
