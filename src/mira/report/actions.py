"""What to do next: the actions that a run calls for, each with the command or setting to paste, best first."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mira.config.settings import LabelSettings, ReliabilitySettings, TeacherSettings
from mira.llm.spent import read_spent, total
from mira.reliability.students.label_next import Need
from mira.report.needs import labelled, needs_of_sources
from mira.report.overview import Overview, SourceRow
from mira.run_folder.paths import RunFolder
from mira.selection.yardstick.figures import HIGH_RHO, Kept, SourceFigures

__all__ = ["SHOWN", "Action", "Given", "actions"]

SHOWN = 3
"""Actions that the page shows openly; the others are folded."""

_LOST = 0.01  # of a source's lines; fewer are no reason to act (ours)
_MOVED = 0.05  # of a source's tokens that its mask moves (ours)
_LINES = 20

_FIELDS = frozenset({"missing_field", "bad_field", "empty_text"})
_AGAIN = frozenset({"endpoint_error", "not_recorded"})


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do.

    Attributes:
        title: What to do.
        why: The figures that call for it.
        paste: The command, or the setting, to paste.
        share: Share of the corpus's tokens whose fate it concerns, 0..1: what actions are ranked by.
    """

    title: str
    why: str
    paste: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What of the settings decides on actions.

    Attributes:
        teacher: The teacher.
        label: What it labels.
        reliability: When a cell is trusted.
        student: Kind of student.
        planted: Records per source to spoil.
        max_record_bytes: Longer lines are rejected.
        length_controlled: The selection takes out length already.
        file_name: The settings file.
        arguments: The settings as a command takes them.
    """

    teacher: TeacherSettings
    label: LabelSettings
    reliability: ReliabilitySettings
    student: str
    planted: int
    max_record_bytes: int
    length_controlled: bool
    file_name: str
    arguments: str


def actions(
    given: Given, run: RunFolder, view: Overview, manifest: Mapping[str, Any], kept: Kept
) -> tuple[Action, ...]:
    """Return the actions, by the share of the corpus's tokens whose fate they concern.

    The rule is ours. Cells that labels would unmask: the source's tokens times the share of its slots. A mask: the
    tokens that it moves. Length: the source's tokens times rho squared. Lost lines: their number times the source's
    mean tokens. Faults that were not planted yet: all kept tokens.
    """
    if not view.total.tokens_in:
        return ()
    found = [
        *_labels(given, run, view, manifest),
        *_selection(given, view, kept),
        *_evaluate(given, run, view),
        *(action for source in view.sources for action in _lost(given, source, view.total.tokens_in)),
    ]
    return tuple(sorted(found, key=lambda action: (-action.share, action.title)))


def _labels(given: Given, run: RunFolder, view: Overview, manifest: Mapping[str, Any]) -> Iterator[Action]:
    """Yield what more labels would do. `label.sample` holds for all sources, so one number serves all cells."""
    needs = needs_of_sources(run, manifest, given.reliability, given.label.held_out)
    have = labelled(manifest)
    valid = {s.name: s.tally.rows - s.tally.rejected for s in view.sources}
    wanted = {
        source: [n for n in cells if n.labels and have.get(source, 0) + n.labels <= valid.get(source, 0)]
        for source, cells in needs.items()
    }
    few = {s: [n for n in cells if n.outlook == "too few to tell"] for s, cells in wanted.items()}
    if any(few.values()):
        sample = max(have.get(s, 0) + (n.labels or 0) for s, cells in few.items() for n in cells)
        why = f"Labels are too few to test {_cells(few)}: reliability.min_n is {given.reliability.min_n}."
        yield _label(given, view, manifest, f"Label {sample:,} records per source", why, sample, few, valid)
    masked = {s: [n for n in cells if n.outlook == "masked"] for s, cells in wanted.items()}
    steps = sorted({have.get(s, 0) + (n.labels or 0) for s, cells in masked.items() for n in cells})
    if steps:
        best = max(steps, key=lambda step: _count(_reached(masked, have, step)) / _more(step, have, valid))
        reached = _reached(masked, have, best)
        chances = [n.chance for cells in reached.values() for n in cells if n.chance is not None]
        likely = f" (chance that they can be: {sum(chances) / len(chances):.0%})" if chances else ""
        rest = _count(masked) - _count(reached)
        why = f"{_cells(reached)} would be trusted at this number if their rank correlation stays as it is{likely}."
        why += f" {rest:,} more would need up to {steps[-1]:,} labels per source." if rest else ""
        title = f"Label {best:,} records per source to unmask {_count(reached):,} cells"
        yield _label(given, view, manifest, title, why, best, reached, valid)


def _label(
    given: Given,
    view: Overview,
    manifest: Mapping[str, Any],
    title: str,
    why: str,
    sample: int,
    cells: Mapping[str, Sequence[Need]],
    valid: Mapping[str, int],
) -> Action:
    share = sum(len(cells.get(s.name, ())) * _tokens(s, view) / max(_slots(s, manifest), 1) for s in view.sources)
    more = round(_more(sample, labelled(manifest), valid) * (1 + given.label.replicates))
    if given.teacher.endpoint is None or given.teacher.replies:
        why += (
            " The teacher of this run is recorded: name one that can be asked, or add its replies to teacher.replies."
        )
        return Action(title, why, _teacher(sample), share)
    why += f" label.sample holds for every source: about {more:,} more judgements{_price(manifest, more)}."
    return Action(title, why, f"mira run {given.arguments} --set label.sample={sample}", share)


def _teacher(sample: int) -> str:
    return f'teacher:\n  replies: ""\n  endpoint: {{base_url: URL, model: NAME}}\nlabel:\n  sample: {sample}'


def _price(manifest: Mapping[str, Any], judgements: int) -> str:
    """Return what so many judgements cost, by what those of this run have cost; "" where that is not known."""
    spent = total(read_spent(_summary(manifest, "label")))
    paid = spent.cost + spent.known_cost
    return f", at a cost of about {judgements * paid / spent.replies:,.2f}" if paid and spent.replies else ""


def _reached(cells: Mapping[str, Sequence[Need]], have: Mapping[str, int], sample: int) -> dict[str, list[Need]]:
    return {s: [n for n in own if have.get(s, 0) + (n.labels or 0) <= sample] for s, own in cells.items()}


def _more(sample: int, have: Mapping[str, int], valid: Mapping[str, int]) -> int:
    """Return how many records more are labelled if `label.sample` is `sample`."""
    return max(sum(max(min(sample, n) - have.get(source, 0), 0) for source, n in valid.items()), 1)


def _count(cells: Mapping[str, Sequence[Need]]) -> int:
    return sum(map(len, cells.values()))


def _cells(cells: Mapping[str, Sequence[Need]]) -> str:
    """Return "A1, A2 of docs and A3 of web"."""
    named = [f"{', '.join(n.slot for n in own)} of {source}" for source, own in cells.items() if own]
    return " and ".join([*([", ".join(named[:-1])] if named[1:] else []), named[-1]])


def _selection(given: Given, view: Overview, kept: Kept) -> Iterator[Action]:
    """Yield what length and masks call for."""
    select = f"mira select {given.arguments} --set"
    figures = [(s, kept.sources.get(s.name, SourceFigures())) for s in view.sources]
    moved = [(s, f) for s, f in figures if abs(f.mask_moves or 0.0) >= _MOVED]
    if moved and kept.compare_by == "own":
        told = "; ".join(f"{s.name} keeps {f.own:.0%}, without its own mask {f.shared:.0%}" for s, f in moved)
        why = f"Competing sources trust different slots, and that alone moves their shares: {told}."
        share = sum(abs(f.mask_moves or 0.0) * _tokens(s, view) for s, f in moved)
        title = "Compare sources by slots that are centred over all of them"
        yield Action(title, why, f"{select} select.compare_by=centred", share)
    long = [(s, rho) for s, f in figures if abs(rho := f.length_rho or 0.0) > HIGH_RHO]
    if long and not given.length_controlled:
        told = ", ".join(f"{s.name} {rho:.2f}" for s, rho in long)
        share = sum(rho**2 * _tokens(s, view) for s, rho in long)
        why = f"Records rank by their length as much as by their quality (Spearman of rank and tokens: {told})."
        title = "Keep the best of every length"
        yield Action(title, why, f"{select} select.length.control=strata", share)


def _evaluate(given: Given, run: RunFolder, view: Overview) -> Iterator[Action]:
    if run.evaluation.is_file() or view.method != "mira":
        return
    why = (
        "For this selection it has not been measured whether the students notice damage, and whether they agree with "
        "the teacher on records that they have not learned from."
    )
    if given.student != "encoder":
        why += " A served student is asked about the spoiled copies: --max-requests limits that."
    planted = "" if given.planted else " --set evaluate.planted=20"
    share = view.total.tokens_kept / view.total.tokens_in
    yield Action(
        "Test the selection: held-out labels, planted faults",
        why,
        f"mira evaluate {given.arguments}{planted}",
        share,
    )


def _lost(given: Given, source: SourceRow, all_tokens: int) -> Iterator[Action]:
    """Yield what to do about lines of a source that were rejected, and records that were not scored."""
    tally = source.tally
    for kind, n in (("rejected", tally.rejected), ("unscored", tally.unscored)):
        if n <= _LOST * tally.rows:
            continue
        reasons = sorted(
            (r for r in source.reasons if r.name.startswith(f"{kind}:")), key=lambda r: (-r.records, r.name)
        )
        told = ", ".join(f"{r.records:,} {r.name.partition(':')[2]}" for r in reasons)
        tokens = n * tally.tokens_in / max(tally.rows - tally.rejected, 1)
        first = reasons[0].name.partition(":")[2] if reasons else ""
        why = f"{n:,} of {tally.rows:,} lines ({n / tally.rows:.1%}) were {kind}: {told}."
        advice, paste = _way_out(given, source.name, kind, first)
        title = f"Look at the lines of {source.name} that were {kind}"
        yield Action(title, f"{why} {advice}".strip(), paste, tokens / (all_tokens + tokens))


def _way_out(given: Given, source: str, kind: str, reason: str) -> tuple[str, str]:
    """Return advice, and what to paste, for the most frequent reason."""
    run = f"mira run {given.arguments}"
    if reason == "too_long":
        return "", f"{run} --set max_record_bytes={4 * given.max_record_bytes}"
    if reason in _AGAIN:
        return "They are asked again by the next run.", run
    if reason == "overflow":
        return "Raise max_model_len of the endpoint if its server allows more.", _look(given, source, kind)
    if reason in _FIELDS:
        return f"Does `fields` of source {source} name the fields of its records?", _look(given, source, kind)
    return "", _look(given, source, kind)


def _look(given: Given, source: str, kind: str) -> str:
    """Return a command that prints the first such lines, for a shell."""
    table, columns, reason = (
        ("index", "shard, row, reason_rejected, detail", "reason_rejected")
        if kind == "rejected"
        else ("scores", "shard, row, id, reason_unscored", "reason_unscored")
    )
    query = f"SELECT {columns} FROM {table} WHERE source = $s AND {reason} IS NOT NULL LIMIT {_LINES}"
    rows = f'mira.open("{given.file_name}").sql("{query}", {{"s": "{source}"}}).to_pylist()'
    return f"python -c {shlex.quote(f'import mira; print(*{rows}, sep=chr(10))')}"


def _tokens(source: SourceRow, view: Overview) -> float:
    """Return a source's share of the corpus's tokens."""
    return source.tally.tokens_in / view.total.tokens_in


def _slots(source: SourceRow, manifest: Mapping[str, Any]) -> int:
    groups = _summary(manifest, "discover").get("groups", {})
    return int(groups.get(source.group, {}).get("slots", 0) or 15)


def _summary(manifest: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = manifest.get("stages", {}).get(stage, {}).get("summary", {})
    return found
