"""A served student over real HTTP, and an sft bundle as a training job leaves it, with weights that no test runs."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mira.distillation.bundle import seal
from mira.distillation.sft.examples import student_prompt
from mira.distillation.sft.train import _write_job_bundle
from mira.rubric.rubric import Rubric
from support.sft_case import config as sft_config
from support.sft_case import tuning


class Server(ThreadingHTTPServer):
    """Scores every slot of the rubric by what `answer` says of the user message; keeps the requests."""

    def __init__(self, answer: Callable[[str], float], slots: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.slots, self.broken = answer, slots, False
        self.requests: list[dict[str, Any]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def systems(self) -> set[str]:
        return {body["messages"][0]["content"] for body in self.requests}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        score = self.server.answer(body["messages"][-1]["content"])
        lines = [f"[{slot}] {name}: {score:.1f}/10 — because" for slot, name in self.server.slots.items()]
        reply = "\n".join([*lines, "overall: 50/100", "recommendation: keep", "domain_tag: t", "brief: b"])
        if self.server.broken:
            reply = "I cannot."
        message = {"role": "assistant", "content": reply}
        choice = {"message": message, "finish_reason": "stop"}
        content = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}).encode()
        self._send(200, content)

    def do_GET(self) -> None:
        listed = self.path == "/v1/models"
        self._send(200 if listed else 404, b'{"data": [{"id": "m"}]}' if listed else b"no such page")

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(answer: Callable[[str], float], rubric: Rubric) -> Iterator[Server]:
    server = Server(answer, {a.slot: a.name for a in rubric.anchors})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sft_bundle(folder: Path, rubric: Rubric) -> Path:
    """A bundle that was trained without references: its prompt is not the one that a released scorer is asked with."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    config = sft_config(folder, references=False, slot_order="fixed", max_length=4000, max_reply=500)
    chosen = tuning(config)
    _write_job_bundle(folder, chosen, rubric, student_prompt(rubric, chosen), {})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    seal(folder)
    return folder
