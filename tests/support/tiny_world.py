"""A project of two small sources and a rubric of three slots, for whole runs with any kind of student."""

import json
import shutil
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.settings import DistillSettings
from mira.distillation.encoder.student import train_encoder
from mira.progress import Quiet
from support.encoder_case import RUBRIC, corpus, label_table
from support.served_case import sft_bundle

GROUP = RUBRIC.group
SOURCES = ("source_A", "source_B")
RECORDS, SCORES = corpus(60)


def reply_of(scores: Any) -> str:
    """What a teacher that follows the form says."""
    lines = [f"[{a.slot}] {a.name}: {s:.1f}/10 — because" for a, s in zip(RUBRIC.anchors, scores, strict=False)]
    closing = ["overall: 50/100", "training_recommendation: keep", "domain_tag: t", "brief: b"]
    return "\n".join([*lines, *closing])


class TinyWorld:
    """A folder with sources, rubric and recorded replies; `settings` is written before every command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "run": "run",
            "sources": [{"name": s, "path": f"{s}.jsonl"} for s in SOURCES],
            "embedding": {"windows": 1, "window_tokens": 32},
            "group": {"given": {GROUP: list(SOURCES)}, "sample": 10},
            "discover": {"rubrics": {GROUP: "rubric.jsonl"}},
            "distill": {"folds": 2},
            "score": {"workers": 1},
            "reliability": {"bootstrap": 100, "min_n": 5},
            "select": {"scope": "source"},
        }
        for source in SOURCES:
            own = [r for r in RECORDS if r.source == source]
            lines = [json.dumps({"id": r.id, "text": r.text}) for r in own]
            (folder / f"{source}.jsonl").write_text("\n".join(lines) + "\n")
        RUBRIC.save(folder / "rubric.jsonl")
        replies = [
            json.dumps({"id": r.id, "source": r.source, "replicate": 0, "reply": reply_of(row)})
            for r, row in zip(RECORDS, SCORES, strict=True)
        ]
        (folder / "replies.jsonl").write_text("\n".join(replies) + "\n")

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def set(self, **sections: Any) -> None:
        """Merge into the settings, section by section."""
        for name, value in sections.items():
            self.settings[name] = self.settings.get(name, {}) | value

    def use_recorded_labels(self) -> None:
        self.set(teacher={"replies": "replies.jsonl"})

    def mira(self, verb: str, *options: object, ok: bool = True) -> str:
        """Run a verb on the settings; return what it printed, the progress included."""
        path = self.folder / "mira.yaml"
        path.write_text(json.dumps(self.settings))
        result = CliRunner().invoke(app, [verb, str(path), *map(str, options)], catch_exceptions=not ok)
        assert not ok or result.exit_code == 0, result.output
        return result.output + (str(result.exception or "") if not ok else "")

    def encoder_bundle(self) -> Path:
        folder = self.folder / "bundles" / "encoder"
        if not folder.is_dir():
            train_encoder(
                label_table(RECORDS, SCORES), RECORDS, RUBRIC, None, DistillSettings(folds=2), 0, folder, Quiet()
            )
        return folder

    def sft_bundle(self) -> Path:
        folder = self.folder / "bundles" / "sft"
        return folder if folder.is_dir() else sft_bundle(folder, RUBRIC)

    def copy_to(self, folder: Path) -> "TinyWorld":
        """Return a copy of the project in another place."""
        shutil.copytree(self.folder, folder)
        other = TinyWorld.__new__(TinyWorld)
        other.folder, other.settings = folder, json.loads(json.dumps(self.settings))
        return other
