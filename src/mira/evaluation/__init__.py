"""What a selection is worth: agreement with held-out labels, planted faults, naive means, a small LM."""

from mira.evaluation.agreement import Held, agreement
from mira.evaluation.faults import Fault, degrade
from mira.evaluation.planted import Pair, PlantedFigures, Scorer, by_length, judge_scorer, measure_planted, plant
from mira.evaluation.proxy import proxy
from mira.evaluation.stage import evaluate
from mira.evaluation.students import against_naive

__all__ = [
    "Fault",
    "Held",
    "Pair",
    "PlantedFigures",
    "Scorer",
    "against_naive",
    "agreement",
    "by_length",
    "degrade",
    "evaluate",
    "judge_scorer",
    "measure_planted",
    "plant",
    "proxy",
]
