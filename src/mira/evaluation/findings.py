"""What the figures of planted faults come to, in plain words, with what can be done about it."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["planted_findings"]

_NO_ADVICE = ("mira", "length", "random")
"""Length is no method of selection, and whatever random order sees it sees by chance."""


def planted_findings(methods: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Tell what the students do not see, and which methods see more than they do.

    A fault counts as unseen where the interval of the students' accuracy does not lie above 1/2, and a method sees more
    where its interval lies above 1/2 and above the students'. Both rules are ours.

    Args:
        methods: Method -> its figures (`PlantedFigures` as mappings), one a fault and one for all; "mira" is the
            students'.

    Returns:
        Sentences; none where there is nothing to tell.
    """
    own = {f["fault"]: f for f in methods.get("mira", ()) if f["fault"] != "all" and f["accuracy"] is not None}
    unseen = [f for f in own.values() if f["accuracy_low"] <= 0.5]
    told = []
    if unseen:
        told.append(
            f"The students do not see {_listed(unseen)}: share of pairs in which the original scores higher, where "
            "guessing has 50%. A high score says nothing about these faults."
        )
    for name, figures in methods.items():
        better = [f for f in figures if f["fault"] in own and _sees_more(f, own[f["fault"]])]
        if better and name not in _NO_ADVICE:
            told.append(
                f"{name} sees more than the students do of {_listed(better)}. To use both, run mira on this run's "
                f"`selected` folder with select.method {name} and a generous budget, such as 90%."
            )
    return told


def _sees_more(other: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return other["accuracy"] is not None and other["accuracy_low"] > max(own["accuracy_high"], 0.5)


def _listed(figures: Sequence[Mapping[str, Any]]) -> str:
    named = [f"{f['fault'].replace('_', ' ')} ({f['accuracy']:.0%})" for f in figures]
    return " and ".join([*([", ".join(named[:-1])] if named[1:] else []), named[-1]])
