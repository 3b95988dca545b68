"""Stage 1: sources -> groups; free-form judgments -> anchor dimensions and calibration references."""

from mira.discovery.anchors import JudgmentPoint, cluster_points
from mira.discovery.grouping import Group, group, load_groups
from mira.discovery.rubric import Anchor, Reference, Rubric
from mira.discovery.stage import discover

__all__ = [
    "Anchor",
    "Group",
    "JudgmentPoint",
    "Reference",
    "Rubric",
    "cluster_points",
    "discover",
    "group",
    "load_groups",
]
