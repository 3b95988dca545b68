"""How fast students score, and what a million records cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mira.config.settings import DistillSettings, EmbeddingSettings, ScoreSettings
from mira.corpus.record import Record
from mira.distillation.bundle import SUMS
from mira.distillation.encoder.student import EncoderStudent
from mira.distillation.head.student import HeadStudent
from mira.embedding import load_embedder
from mira.errors import MiraError
from mira.progress import Log
from mira.reliability.students.candidates import StudentCandidate
from mira.run_folder.files import hash_file, hash_json, read_json, write_json
from mira.run_folder.paths import RunFolder

__all__ = ["Speed", "kept_speed", "price_here", "scored_stage", "speed_here", "speed_served"]

_MOST = 64
_SECONDS = 3.0
_STEP = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a student scores, NaN where not measured.

    Attributes:
        records_per_second: On one core here, or all that a server did while it scored this run.
        cost: Of a million records, in the currency of the prices in the settings.
    """

    records_per_second: float = float("nan")
    cost: float = float("nan")


def price_here(records_per_second: float, settings: ScoreSettings) -> float:
    """Return the price of a million records at `score.price_per_hour`; NaN where that is not set."""
    return 1e6 / records_per_second / 3600 * settings.price_per_hour if settings.price_per_hour else float("nan")


def speed_here(
    student: StudentCandidate, records: Sequence[Record], run: RunFolder, distill: DistillSettings,
    embedding: EmbeddingSettings, score: ScoreSettings, log: Log,
) -> Speed:  # fmt: skip
    """Time a student that computes here on labelled records, in this process.

    Returns:
        NaN where the student is served, where there are no records, or where it cannot be loaded here.
    """
    if student.kind not in ("encoder", "head") or not records:
        return Speed()
    try:
        key = hash_json([hash_file(student.folder / SUMS), distill.head.scoring, len(records)])
        some = records[:: max(1, len(records) // _MOST)][:_MOST]
        rate = kept_speed(run, key, lambda: _timed(_opened(student, distill, embedding), some))
    except (MiraError, OSError) as error:
        log.note(f"  {student.name}: its speed is not measured: {error}")
        return Speed()
    return Speed(rate, price_here(rate, score))


def kept_speed(run: RunFolder, key: str, measure: Callable[[], float]) -> float:
    """Return a speed from the run's cache, or measure it and keep it there: equal inputs give equal results."""
    path = run.cache / "speeds.json"
    try:
        known: dict[str, float] = read_json(path)
    except (OSError, orjson.JSONDecodeError):
        known = {}
    if key not in known:
        known[key] = measure()
        write_json(path, known)
    return known[key]


def _opened(student: StudentCandidate, distill: DistillSettings, embedding: EmbeddingSettings) -> Any:
    if student.kind == "head":
        return HeadStudent(student.folder, distill.head.scoring)
    other = embedding.model not in ("minilm", "static")
    return EncoderStudent.load(student.folder, load_embedder(embedding, threads=1) if other else None)


def _timed(student: Any, records: Sequence[Record]) -> float:
    student.predict(records[:2])  # what is loaded at first use
    started, done = time.perf_counter(), 0
    while done < len(records) and time.perf_counter() - started < _SECONDS:
        done += len(student.predict(records[done : done + _STEP]))
    return round(done / max(time.perf_counter() - started, 1e-9), 1)


def scored_stage(run: RunFolder) -> dict[str, Any]:
    """Return the manifest's entry of stage `score`; {} where nothing was scored."""
    try:
        found: dict[str, Any] = read_json(run.manifest)["stages"]["score"]
        return found
    except (OSError, KeyError, TypeError, orjson.JSONDecodeError):
        return {}


def speed_served(stage: Mapping[str, Any], group: str) -> Speed:
    """Return what the manifest says of a served student's scoring; NaN where it scored nothing, or paid nothing.

    Args:
        stage: The manifest's entry of stage `score`.
        group: The group.
    """
    summary = stage.get("summary", {})
    asked = summary.get("requests", {}).get(group, {})
    replies, sent = asked.get("replies", 0), asked.get("replies", 0) - asked.get("from_journal", 0)
    cost = asked.get("cost", 0.0) + asked.get("known_cost", 0.0)
    alone = len(summary.get("requests", {})) == 1
    return Speed(
        round(sent / stage["seconds"], 1) if alone and sent > 0 and stage.get("seconds") else float("nan"),
        cost / replies * 1e6 if replies and cost else float("nan"),
    )
