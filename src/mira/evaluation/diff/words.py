"""The findings of a comparison in words."""

from collections import Counter
from collections.abc import Iterator

from mira.evaluation.diff.results import DiffResult, GroupDiff

__all__ = ["summary"]

_MOST = 5


def summary(found: DiffResult) -> Iterator[str]:
    """Yield what changed, causes first, then what that did to the selection."""
    yield from _causes(found)
    yield from _effects(found)
    yield from _why(found)
    yield from _anchors(found)


def _causes(found: DiffResult) -> Iterator[str]:
    yield from _settings(found)
    for stage, names in found.files.items():
        yield f"files of stage {stage} differ: {', '.join(names[:_MOST])}{_more(len(names))}"
    for name, group in found.groups.items():
        yield from _group(name, group)
    if found.masks:
        by = Counter(change.masked_in for change in found.masks)
        cells = ", ".join(f"{c.source} {c.slot} (in {c.masked_in})" for c in found.masks[:_MOST])
        yield f"masks: {by['A']} cells masked in A alone, {by['B']} in B alone: {cells}{_more(len(found.masks))}"
    for name, scope in found.scopes.items():
        if scope.threshold_a != scope.threshold_b:
            yield f"threshold of {name}: {_number(scope.threshold_a)} -> {_number(scope.threshold_b)}"


def _settings(found: DiffResult) -> Iterator[str]:
    """Yield each changed setting once, though several stages may read it, or parts of it: then as the most that is."""
    known: dict[str, tuple[object, object]] = {}
    for settings in found.settings.values():
        known |= {name: pair for name, pair in settings.items() if len(str(pair)) > len(str(known.get(name, "")))}
    for name, (old, new) in known.items():
        yield f"setting {name}: {_shown(old)} -> {_shown(new)}"


def _group(name: str, group: GroupDiff) -> Iterator[str]:
    if group.sources_a is None or group.sources_b is None:
        yield f"group {name} is only in {'B' if group.sources_a is None else 'A'}"
    elif group.sources_a != group.sources_b:
        yield f"group {name} has other sources: {', '.join(group.sources_a)} -> {', '.join(group.sources_b)}"
    if group.rubric_changed:
        renamed = f": {'; '.join(group.slots[:_MOST])}{_more(len(group.slots))}" if group.slots else ""
        yield f"rubric of {name} changed{renamed}"
    same = group.labelled_a == group.labelled_b == group.labelled_both
    if group.labels_changed or not same:
        yield (
            f"labels of {name}: {group.labelled_a:,} -> {group.labelled_b:,} records, {group.labelled_both:,} in "
            f"both, {group.labels_changed:,} of them with another judgement"
        )
    if group.student_changed:
        yield f"student of {name} changed"


def _effects(found: DiffResult) -> Iterator[str]:
    every = list(found.sources.values())
    both, only_a, only_b = (sum(getattr(one, part) for one in every) for part in ("both", "only_a", "only_b"))
    yield f"{both:,} records in both runs, {only_a:,} in A alone, {only_b:,} in B alone"
    kept, gained, lost = (sum(getattr(one, part) for one in every) for part in ("kept_both", "gained", "lost"))
    yield f"{kept:,} records are kept by both, {gained:,} by B alone, {lost:,} by A alone"
    if not gained and not lost and not found.settings and not found.stages:
        yield "nothing changed"


def _why(found: DiffResult) -> Iterator[str]:
    every = list(found.sources.values())
    flipped = sum(one.gained + one.lost for one in every)
    if not flipped:
        return
    reasons: Counter[str] = Counter()
    slots: Counter[str] = Counter()
    for name, one in found.sources.items():
        reasons.update(one.by_reason)
        slots.update({f"{name} {slot}": figures.decided for slot, figures in one.slots.items() if figures.decided})
    parts = {
        "the threshold": sum(one.by_threshold for one in every),
        "a slot": sum(one.by_slots for one in every),
        "something else in quality": sum(one.by_rest for one in every),
        **{f"reason {reason}": n for reason, n in reasons.most_common(_MOST)},
    }
    yield f"{flipped:,} records flipped, moved most by: " + ", ".join(f"{name} {n:,}" for name, n in parts.items() if n)
    if slots:
        yield (
            "slots that decided: "
            + ", ".join(f"{name} {n:,}" for name, n in slots.most_common(_MOST))
            + _more(len(slots))
        )


def _anchors(found: DiffResult) -> Iterator[str]:
    one = found.anchors
    if one is None:
        return
    yield (
        f"on {one.records:,} records labelled in both: teachers agree with rho {_number(one.teachers)} within sources, "
        f"students with their teachers {_number(one.student_a)} -> {_number(one.student_b)}, "
        f"{_percent(one.kept_both)} have the same fate"
    )


def _more(n: int) -> str:
    return f" and {n - _MOST:,} more" if n > _MOST else ""


def _shown(value: object) -> str:
    return "default" if value is None else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
