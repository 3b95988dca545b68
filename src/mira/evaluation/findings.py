"""What the figures of planted faults come to, in plain words, with what can be done about it."""

from collections.abc import Mapping, Sequence

from mira.evaluation.results import Estimate, PlantedFigures, StudentResult
from mira.evaluation.verdicts.verdict import Interval, Share, Verdict, verdict, verdict_of_all

__all__ = ["planted_findings", "verdicts"]

_NO_ADVICE = ("mira", "length", "random")
"""Length is not a method of selection, and whatever random order sees it sees by chance."""


def planted_findings(
    methods: Mapping[str, Sequence[PlantedFigures]], sources: Mapping[str, PlantedFigures]
) -> list[str]:
    """Tell what the students do not see, and which methods see more than they do.

    A fault counts as unseen where the interval of the students' accuracy does not lie above 1/2, and so do a source's
    faults taken together; but where it reaches up to 3/4 as well, the pairs are too few to tell
    (`PlantedFigures.too_few`). A method sees more where its interval lies above 1/2 and above the students'. These
    rules are ours.

    Args:
        methods: Method -> its figures, one per fault and one for all; "mira" is the
            students'.
        sources: Source -> the students' figures of all its pairs.

    Returns:
        Sentences; none where there is nothing to tell.
    """
    own = {_name(f): f for f in methods.get("mira", ()) if f.fault != "all"}
    told = []
    if unseen := {fault: f for fault, f in own.items() if _is_unseen(f)}:
        told.append(
            f"The students do not see {_listed(unseen)}: share of pairs in which the original scores higher, where "
            "guessing has 50%. A high score says nothing about these faults."
        )
    if blind := {source: f for source, f in sources.items() if _is_unseen(f)}:
        told.append(f"All faults together, the students do not see them in {_listed(blind)}.")
    unclear = {fault: f for fault, f in own.items() if f.too_few}
    unclear |= {f"all faults in {source}": f for source, f in sources.items() if f.too_few}
    if unclear:
        told.append(
            f"Too few pairs to tell whether the students see {_listed(unclear)}: the intervals hold both 50%, which "
            "guessing has, and 75%. A larger evaluate.planted spoils more records."
        )
    for name, figures in methods.items():
        better = {_name(f): f for f in figures if _name(f) in own and _sees_more(f, own[_name(f)])}
        if better and name not in _NO_ADVICE:
            told.append(
                f"{name} sees more than the students do of {_listed(better)}. To use both, set select.gates: "
                f"[{{value: {name}, drop: 10%}}], and run this again: it then shows what the gate drops, and costs."
            )
    return told


def verdicts(
    students: Mapping[str, Mapping[str, StudentResult]],
    faults: Mapping[str, Sequence[PlantedFigures]],
    bundles: Mapping[str, str],
) -> dict[str, Verdict]:
    """Return group -> the verdict on its student, and "all" -> that on all of them.

    Args:
        students: Group -> "student" and the baselines.
        faults: Group -> figures of its student's pairs by fault; "all" -> those of all pairs.
        bundles: Group -> hash of its bundle.
    """
    found = {}
    for group, digest in bundles.items():
        own = students.get(group, {}).get("student", StudentResult())
        found[group] = verdict(_interval(own.rho), _interval(own.of_ceiling), _shares(faults.get(group, ())), digest)
    return found | {"all": verdict_of_all(found, _shares(faults.get("all", ())))}


def _interval(estimate: Estimate) -> Interval | None:
    value, low, high = estimate.value, estimate.low, estimate.high
    return None if value is None or low is None or high is None else (value, low, high)


def _shares(figures: Sequence[PlantedFigures]) -> dict[str, Share]:
    return {
        f.fault: Share(f.accuracy, f.accuracy_low, f.accuracy_high, f.compared)
        for f in figures
        if f.accuracy is not None and f.accuracy_low is not None and f.accuracy_high is not None and f.fault != "all"
    }


def _name(figures: PlantedFigures) -> str:
    return figures.fault.replace("_", " ")


def _is_unseen(figures: PlantedFigures) -> bool:
    return figures.accuracy_low is not None and figures.accuracy_low <= 0.5 and not figures.too_few


def _sees_more(other: PlantedFigures, own: PlantedFigures) -> bool:
    if other.accuracy_low is None or own.accuracy_high is None:
        return False
    return other.accuracy_low > max(own.accuracy_high, 0.5)


def _listed(figures: Mapping[str, PlantedFigures]) -> str:
    named = [f"{name} ({f.accuracy:.0%})" for name, f in figures.items()]
    return " and ".join([*([", ".join(named[:-1])] if named[1:] else []), named[-1]])
