"""A project of two families with a live teacher over real HTTP that counts what it is asked."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.loading import load_config
from mira.pipeline.runner import run_stages
from support.fault_server import FaultServer, completion

SLOTS, SAMPLE, LABELS, TWICE = 2, 6, 20, 2
"""Anchors; records per source that are judged freely; records per source that are labelled, and twice."""
CALLS = LABELS + TWICE
TOPICS = {
    "sockets": "The TCP socket retries the handshake when a packet is lost and the router drops the connection.",
    "routers": "Routers and firewalls forward every packet of a TCP connection and log the lost ones.",
    "pasta": "Boil the pasta in salted water, fry the onions in butter and serve with grated cheese.",
    "soup": "Simmer the soup with carrots and herbs, bake the bread and season the salad with salt.",
    "faq": "How is a list sorted in Python? Call its sort method, or sorted for a copy.",
    "bread": "Knead the dough with flour and yeast, let it rise, then bake the bread with butter and salt.",
}
QA = ("faq",)
FIRST = ("sockets", "routers", "pasta", "soup", "faq")
SETTINGS = f"""\
# A project of two families.
run: run
sources:
SOURCES
teacher:
  endpoint: {{base_url: URL, model: fake, price_in: 1, price_out: 2}}
embedding: {{windows: 1, window_tokens: 32}}
group:
  sample: 8
  k: {{text: 2}}  # kitchen and network
discover: {{sample: {SAMPLE}, slots: {SLOTS}, references: 2}}
label: {{sample: {LABELS}, replicates: 0.1}}
distill: {{folds: 2}}
score: {{workers: 1}}
reliability: {{bootstrap: 100, min_n: 5}}
# The end.
"""
_ASKED = re.compile(r"^\[(A\d+)\] (.+?): <score>/10", re.MULTILINE)
_ABOUT = re.compile(r"\(ref (\w+)-(\d+)\)")


class CountingTeacher(FaultServer):
    """Judges by how often a record says "because"; counts requests by what they ask for and their source."""

    def __init__(self) -> None:
        super().__init__(handler=self._judge)
        self.free: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()

    def _judge(self, body: dict[str, Any], _request: web.Request) -> dict[str, Any]:
        text = body["messages"][-1]["content"]
        (source, number), good = _ABOUT.search(text).groups(), text.count("because")  # type: ignore[union-attr]
        asked = _ASKED.findall(text)
        if asked:
            self.labels[source] += 1
            lines = [f"[{slot}] {name}: {min(10, good + i)}/10 — seen" for i, (slot, name) in enumerate(asked)]
            return completion("\n".join([*lines, f"overall: {10 * good}", "training_recommendation: keep",
                                         "domain_tag: t", "brief: b"]))  # fmt: skip
        self.free[source] += 1
        points = [f"Reasoning Depth of {source}: {good}/10 — Reasons given {number}.",
                  f"Lasting Relevance: {10 - good}/10 — Still true {number}."]  # fmt: skip
        return completion("\n".join(f"[{i}] {point}" for i, point in enumerate(points, 1)))

    def take(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return source -> requests for free judgments, and for labels, since the last call."""
        found = dict(self.free), dict(self.labels)
        self.free.clear()
        self.labels.clear()
        return found


class PaidProject:
    """A folder with settings, data and run; `settings` is a real file, with comments."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        for name, topic in TOPICS.items():
            rng = random.Random(name)
            lines = []
            for i in range(40):
                body = f"{topic} {'because it is so ' * rng.randint(0, 9)}(ref {name}-{i}) {rng.random()}"
                record = {"question": topic, "answer": body} if name in QA else {"text": body}
                lines.append(json.dumps({"id": f"{name}-{i}", **record}))
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        listed = "\n".join(self._line(name) for name in FIRST)
        self.path.write_text(SETTINGS.replace("SOURCES", listed).replace("URL", url))

    @staticmethod
    def _line(name: str) -> str:
        return f"  - {{name: {name}, path: {name}.jsonl, family: {'qa' if name in QA else 'text'}}}"

    @property
    def path(self) -> Path:
        return self.folder / "mira.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.path.read_text())
        return found

    def add(self, name: str) -> None:
        self.path.write_text(self.path.read_text().replace("teacher:\n", f"{self._line(name)}\nteacher:\n", 1))

    def remove(self, name: str) -> None:
        self.path.write_text(self.path.read_text().replace(f"{self._line(name)}\n", "", 1))

    def mira(self, verb: str, *options: object, ok: bool = True) -> str:
        """Run a command on the settings; return what it printed, or the error."""
        result = CliRunner().invoke(app, [verb, str(self.path), *map(str, options)])
        if ok and result.exception is not None:
            raise result.exception
        return result.output + ("" if ok else str(result.exception))

    def label(self, *overrides: str) -> None:
        """Run the stages that ask the teacher."""
        run_stages(load_config(self.path, overrides), ["index", "group", "discover", "label"])

    def labelled(self, *sources: str, calls: int = CALLS) -> dict[str, int]:
        return dict.fromkeys(sources, calls)
