"""A head's bundle whose model is the mean of its tokens' vectors, and fake servers of it that are right or wrong."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mira.corpus.record import Part, Record
from mira.distillation.bundle import seal
from mira.distillation.head.bundle import write_scale
from mira.distillation.head.reading import Reader
from mira.distillation.head.targets import scales
from mira.rubric.rubric import Rubric
from mira.run_folder.files import write_json
from support.encoder_case import RUBRIC

S = TypeVar("S", bound=ThreadingHTTPServer)
ONNX = Path(__file__).parent.parent / "distillation" / "head" / "data" / "mean_of_tokens.onnx"
MAX_LENGTH = 64
CHECK = "A text to check with."
VOCABULARY = 256 + 2
VECTORS: NDArray[np.float32] = np.random.default_rng(0).normal(size=(VOCABULARY, len(RUBRIC.anchors) + 1)).astype("f4")


def byte_tokenizer(path: Path) -> None:
    """Write a tokenizer of single bytes between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["[CLS]", "[SEP]"])
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 256), ("[SEP]", 257)])
    made.save(str(path))


def write_onnx(path: Path) -> None:
    """Make the file that lies in `data/`; needs the package onnx."""
    from onnx import TensorProto, helper, numpy_helper, save

    whole, number = (helper.make_tensor_value_info, TensorProto)
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["read"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=number.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["read", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["wide", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["scores"]),
    ]
    constants = [
        numpy_helper.from_array(VECTORS, "vectors"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    inputs = [whole(name, number.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")]
    outputs = [whole("scores", number.FLOAT, ["b", VECTORS.shape[1]])]
    graph = helper.make_graph(nodes, "mean_of_tokens", inputs, outputs, constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def head_bundle(folder: Path, rubric: Rubric = RUBRIC, *, onnx: bool = True) -> Path:
    """Write a sealed bundle. Its safetensors are read by no test: the model is the ONNX file."""
    folder.mkdir(parents=True)
    byte_tokenizer(folder / "tokenizer.json")
    if onnx:
        shutil.copy(ONNX, folder / "model.onnx")
    save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    write_json(folder / "config.json", {"problem_type": "regression"})
    labels = np.random.default_rng(1).uniform(0, 10, (50, len(rubric.anchors) + 1)) * (
        [1.0] * len(rubric.anchors) + [10]
    )
    reader = Reader(folder / "tokenizer.json", MAX_LENGTH)
    ids = reader.read(Record("", "", "text", (Part("", CHECK),))).ids
    write_scale(folder, scales("zscores", labels), CHECK, VECTORS[ids].mean(axis=0))
    rubric.save(folder / "rubric.jsonl")
    facts = {"kind": "head", "format": 1, "group": rubric.group, "rubric": rubric.hash, "max_length": MAX_LENGTH}
    write_json(folder / "bundle.json", facts | {"pad": 257, "sources": ["source_A"]})
    seal(folder)
    return folder


def softmax(row: NDArray[Any]) -> NDArray[Any]:
    power: NDArray[Any] = np.exp(row - row.max())
    power /= power.sum()
    return power


class ClassifyServer(ThreadingHTTPServer):
    """Answers /classify as vLLM does.

    Args:
        folder: The bundle that it serves.
        how: "right"; "softmax" puts a softmax over the slots; "late softmax" does so after the check; "other" serves
            another model; "short" lacks an output.
    """

    def __init__(self, folder: Path, how: str = "right") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.how, self.requests = how, list[dict[str, Any]]()
        self.paths = list[str]()
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, text: str) -> tuple[list[float], int]:
        """Return the numbers for a text, and its tokens."""
        ids = self.tokenizer.encode(text).ids
        row = VECTORS[ids].mean(axis=0)
        if self.how == "softmax" or (self.how == "late softmax" and text != CHECK):
            row = softmax(row)
        if self.how == "other":
            row = row[::-1] + 1
        return [float(v) for v in (row[1:] if self.how == "short" else row)], len(ids)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ClassifyServer | OutputsServer"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.paths.append(self.path)
        if self.path != "/classify":
            self._send(404, {"error": {"message": "no such page"}})
            return
        row, n = self.server.answer(body["input"])
        data = [{"index": 0, "label": "A1", "probs": row, "num_classes": len(row)}]
        usage = {"prompt_tokens": n, "total_tokens": n, "completion_tokens": 0}
        self._send(200, {"object": "list", "model": body["model"], "data": data, "usage": usage})

    def do_GET(self) -> None:
        self._send(200 if self.path == "/v1/models" else 404, {"data": [{"id": "m"}]})

    def _send(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class OutputsServer(ThreadingHTTPServer):
    """Answers /classify by a function of the text."""

    def __init__(self, outputs: Callable[[str], list[float]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.outputs, self.requests, self.paths = outputs, list[dict[str, Any]](), list[str]()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, text: str) -> tuple[list[float], int]:
        """Return the numbers for a text, and about its tokens."""
        with self.lock:
            return self.outputs(text), len(text) // 3


@contextmanager
def classifying(folder: Path, how: str = "right") -> Iterator[ClassifyServer]:
    with _running(ClassifyServer(folder, how)) as server:
        yield server


@contextmanager
def serving_outputs(outputs: Callable[[str], list[float]]) -> Iterator[OutputsServer]:
    with _running(OutputsServer(outputs)) as server:
        yield server


@contextmanager
def _running(server: S) -> Iterator[S]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
