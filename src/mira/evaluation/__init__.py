"""What a selection is worth: planted faults, agreement with held-out labels."""

from mira.evaluation.agreement import Held, agreement
from mira.evaluation.faults import Fault, degrade
from mira.evaluation.planted import Pair, PlantedFigures, Scorer, by_length, judge_scorer, measure_planted, plant
from mira.evaluation.stage import evaluate

__all__ = [
    "Fault",
    "Held",
    "Pair",
    "PlantedFigures",
    "Scorer",
    "agreement",
    "by_length",
    "degrade",
    "evaluate",
    "judge_scorer",
    "measure_planted",
    "plant",
]
