"""Stage 3: which (source, slot) cells of a student can be trusted, and why the others are masked."""

from mira.reliability.baselines import naive_students
from mira.reliability.compare import CellChoice, Comparison, Interval, StudentFigures, compare_students
from mira.reliability.evidence import Predictions, read_labels, read_predictions
from mira.reliability.stage import RELIABILITY_SCHEMA, reliability
from mira.reliability.students import compare_group_students

__all__ = [
    "RELIABILITY_SCHEMA",
    "CellChoice",
    "Comparison",
    "Interval",
    "Predictions",
    "StudentFigures",
    "compare_group_students",
    "compare_students",
    "naive_students",
    "read_labels",
    "read_predictions",
    "reliability",
]
