"""What the command line prints after a selection."""

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mira.cli.fitted import print_fitted, wide_console
from mira.evaluation.proxy.results import Difference, ProxyResult
from mira.evaluation.results import AgreementFigures, ComparisonResult
from mira.pipeline.cascade import CascadedSource
from mira.progress import printable
from mira.reliability.students.decision import Decision
from mira.reliability.students.results import StudentsResult
from mira.reliability.students.table import Table as StudentTable
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from mira.selection.explain.results import Explanation, RejectedLine, TextMatches
from mira.selection.values import GATED
from mira.selection.yardstick.figures import Kept

__all__ = [
    "print_cascade",
    "print_comparison",
    "print_explanation",
    "print_flags",
    "print_matches",
    "print_proxy",
    "print_rejected",
    "print_students",
    "print_summary",
]

_TOLD_FROM = 0.1  # of a source's records: what is rarer stays in thresholds.json
_ORDINARY = frozenset({"kept", "below_threshold", "floor", "cap"})
_WHY = {
    ("dsir", "unscored:too_short"): "fewer words than select.dsir.min_words",
    ("dataman", "unscored:below_min_overall"): "scored below select.dataman.min_overall",
    ("mira", "unscored:too_few_slots"): "fewer scored slots than select.min_slots",
    ("mira", "masked_source"): "every slot of their source is masked, see select.masked_source",
}
_FLAGS = "flagged:"

COUNTS = ("rows", "kept", "dropped", "unscored", "rejected", "tokens_in", "tokens_kept")


def print_summary(run: RunFolder, console: Console | None = None) -> None:
    """Print what was kept of each source, and where the results are."""
    console = console or wide_console()
    thresholds = read_json(run.thresholds)
    rows = thresholds["sources"]
    totals = {key: sum(counts[key] for counts in rows.values()) for key in COUNTS}
    print_fitted(
        console,
        f"Kept by {thresholds['method']}, scope {thresholds['scope']}",
        ("source", "in", "kept", "dropped", "unscored", "rejected", "tokens in", "tokens kept", "share"),
        [(name, *_cells(counts)) for name, counts in rows.items()],
        ("all", *_cells(totals)),
    )
    if run.kept.is_file():
        _print_kept(console, read_result(Kept, run.kept))
    for line in _unusual(thresholds):
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    if not totals["kept"]:
        console.print(f"Nothing was kept: the budget is {thresholds['budget_tokens']:,} tokens.", style="yellow")
    console.print(f"Kept records: {run.path / 'selected'}", soft_wrap=True, markup=False)
    console.print(f"Report:       {run.report}", soft_wrap=True, markup=False)


def _print_kept(console: Console, kept: Kept) -> None:
    masks = ("own masks", "shared slots", "masks move") if kept.compare_by else ()
    rows = []
    for name, found in kept.sources.items():
        cells = [f"{each:,.0f}" if each is not None else "-" for each in (found.tokens_each, found.tokens_each_kept)]
        cells.append(_figure(found.length_rho))
        if masks:
            moves = "-" if found.mask_moves is None else f"{100 * found.mask_moves:+.1f} points"
            cells += [_percent(found.own), _percent(found.shared), moves]
        rows.append((name, *cells))
    title = "Length, and share of tokens that own masks and shared slots keep" if masks else "Length"
    print_fitted(console, title, ("source", "tokens each", "kept each", "rho with length", *masks), rows)


def _unusual(thresholds: Mapping[str, Any]) -> Iterator[str]:
    """Say what flags left out, and what else keeps a good part of a source from being ranked."""
    sources = thresholds["sources"]
    found = sorted({why for told in sources.values() for why in told["reasons"]} - _ORDINARY)
    for why in found:
        counts = {name: told["reasons"].get(why, 0) for name, told in sources.items()}
        of = {name: told["records_in"] for name, told in sources.items()}
        if why.startswith(GATED):
            kind, _, value = why.partition(":")
            lacking = " for lack of a value" if kind == "gate_missing" else ""
            yield f"Dropped by gate {value}{lacking}: {_of(counts, of)}"
        elif why.startswith(_FLAGS):
            yield f"Left out as {why.removeprefix(_FLAGS)} (flags): {_of(counts, of)}"
        elif any(n > _TOLD_FROM * of[name] for name, n in counts.items()):
            meaning = _WHY.get((thresholds["method"], why))
            named = f"{why.removeprefix('unscored:')}{f' ({meaning})' if meaning else ''}"
            yield f"Not ranked as {named}: {_of(counts, of)}"


def _of(counts: Mapping[str, int], of: Mapping[str, int]) -> str:
    """Return "3 of 30 records (10%): 2 of a, 1 of b"."""
    total, there = sum(counts.values()), sum(of.values())
    each = ", ".join(f"{n:,} of {name}" for name, n in counts.items() if n)
    return f"{total:,} of {there:,} records ({total / max(there, 1):.1%}): {each}"


def print_flags(run: RunFolder, console: Console | None = None) -> None:
    """Print what was flagged in each source, and where the flags are."""
    console = console or wide_console()
    told = read_json(run.manifest)["stages"]["flag"]["summary"]
    kinds = ("records", "duplicates", "near_duplicates", "contaminated")
    rows = []
    for source, counts in told["sources"].items():
        by = counts.get("by", {})
        numbers = [counts[kind]["records"] for kind in kinds]
        numbers += [by.get(name, {}).get("records", 0) for name in told["benchmarks"]]
        rows.append((source, *(f"{n:,}" for n in numbers)))
    print_fitted(
        console,
        "Flagged records; nothing is left out unless the settings say drop",
        ("source", "records", "exact duplicates", "near duplicates", "contaminated", *told["benchmarks"]),
        rows,
    )
    console.print(f"Flags: {run.path / 'flags'}", soft_wrap=True, markup=False, highlight=False)


def _cells(counts: dict[str, int]) -> list[str]:
    numbers = [counts[key] for key in COUNTS]
    share = counts["tokens_kept"] / counts["tokens_in"] if counts["tokens_in"] else 0.0
    return [f"{n:,}" for n in numbers] + [f"{share:.1%}"]


def print_comparison(result: ComparisonResult, console: Console | None = None) -> None:
    """Print several methods side by side: what they keep, and how much of it they share."""
    console = console or wide_console()
    figures = []
    for name, method in result.methods.items():
        agreed = method.agreement.all if method.agreement else AgreementFigures()
        numbers = [f"{method.records_kept:,}", f"{method.mean_tokens or 0:,.0f}", _figure(method.length_rho)]
        numbers += [f"{method.duplicate_tokens or 0:.1%}"]
        numbers += [_percent(agreed.precision), _percent(agreed.dropworthy), _figure(agreed.ndcg)]
        figures.append((name, *numbers))
    columns = ("records", "tokens each", "length rho", "duplicates", "teacher keeps", "teacher drops", "NDCG")
    title = f"Methods under {result.budget_tokens:,} tokens, scope {result.scope}"
    print_fitted(console, title, ("method", *columns), figures)
    shares = [
        (source, *(_percent(m.sources[source].tokens_kept / max(of.tokens_in, 1)) for m in result.methods.values()))
        for source, of in result.sources.items()
    ]
    print_fitted(console, "Share of each source's tokens that is kept", ("source", *result.methods), shares)
    for pair, share in result.jaccard.items():
        _print_lines(console, [f"  {pair.replace('|', ' and ')}: {_percent(share)} of their tokens in common"])


def print_cascade(
    summary: Mapping[str, CascadedSource], result: Mapping[str, Any], console: Console | None = None
) -> None:
    """Print what a cascade judged again, what that changes, and what other shares of calls would change.

    Args:
        summary: Per source: calls, and how far both students agree on the audit slice.
        result: The content of cascade.json.
        console: Where to print.
    """
    console = console or wide_console()
    rows = []
    for source, told in summary.items():
        counts = [f"{n:,}" for n in (told.records, told.near, told.audit, told.calls, told.saved)]
        unscored = f"{sum(told.unscored.values()):,}"
        figures = map(_figure, (told.reach, told.audit_difference, told.audit_rho))
        rows.append((source, *counts, unscored, *figures))
    columns = ("source", "records", "near", "audit", "calls", "saved", "unscored", "reach", "difference", "rho")
    print_fitted(console, "Judged again by the served student", columns, rows)
    if change := result["selection"]:
        print_fitted(
            console,
            "What that changes, under the same settings",
            ("source", "judged again", "tokens in both", "came in", "went out"),
            [(source, *_change(row)) for source, row in change["sources"].items()],
            ("all", *_change(change)),
        )
    simulated = result["simulated"]
    shares = [point["share"] for point in next(iter(simulated.values()))["points"]] if simulated else []
    print_fitted(
        console,
        "Simulated on labels: tokens in common with the teacher's selection, by share judged again",
        ("scope", "labels", *(f"{share:.0%}" for share in shares)),
        [(pool, f"{found['records']:,}", *map(_point, found["points"])) for pool, found in simulated.items()],
    )


def _change(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"{row['records']:,}", f"{row['same']:.1%}", f"{row['gained']:,}", f"{row['lost']:,}")


def _point(point: Mapping[str, Any]) -> str:
    return f"{point['same']:.0%} [{point['low']:.0%}, {point['high']:.0%}]"


def print_explanation(told: Explanation, console: Console | None = None) -> None:
    """Print what decided on one record."""
    console = console or wide_console()
    verdict = "kept" if told.kept else f"not kept ({told.reason})"
    lines = [f"{told.source}/{told.id}: {verdict}; {told.n_tokens:,} tokens", told.where]
    value = "quality" if told.method == "mira" else f"value by {told.method}"
    shown = told.quality if told.method == "mira" else told.value
    lines.append(f"{value} {_figure(shown)}, threshold {_figure(told.threshold)} of scope {told.scope}")
    lines += [str(gate) for gate in told.gates]
    if told.ungated is not None:
        lines.append(f"without the gate it would rank by {_figure(told.ungated)}")
    if told.length:
        lines.append(str(told.length))
    if told.mask_moves:
        lines.append(f"masks alone move {100 * told.mask_moves:+.1f} points of its source's tokens (kept.json)")
    lines += [f"rank in its {place}: {rank.rank:,} of {rank.of:,}" for place, rank in told.ranks.items()]
    if told.flip:
        lines.append(
            f"kept from a budget of {told.flip.tokens_needed:,} tokens on ({told.flip.share:.1%} of its scope); "
            f"it is {told.flip.scope_budget:,}"
        )
    table = Table()
    for column in ("slot", "dimension", "score", ""):
        table.add_column(column)
    for slot in told.slots:
        table.add_row(slot.slot, Text(printable(slot.name or "")), _figure(slot.score), Text(printable(slot.note)))
    _print_lines(console, lines)
    if told.slots:
        console.print(table)
    for name, other in told.methods.items():
        before = other.share_before
        rank = f"{before:.0%} of its source's tokens rank before it" if before is not None else other.reason
        _print_lines(console, [f"{name}: value {_figure(other.value)}; {rank}"])


def print_rejected(told: RejectedLine, console: Console | None = None) -> None:
    """Print why a line is not a record."""
    lines = [f"{told.source}: {told.where} is not a record: rejected as {told.reason}", told.detail]
    _print_lines(console or wide_console(), lines)


def print_matches(found: TextMatches, console: Console | None = None) -> None:
    """Print where a text is."""
    console = console or wide_console()
    for match in found.matches:
        who = f"{match.source}/{match.id}" if match.id else match.source
        _print_lines(console, [f"{who}: {match.state}; {match.where}", f"    {match.excerpt}"])
    total = f"{len(found.matches):,} {'match' if len(found.matches) == 1 else 'matches'}"
    ended = "" if found.complete else "; the search ended there. For more: a larger --limit, or --source NAME"
    _print_lines(console, [total + ended])


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def print_students(result: StudentsResult, console: Console | None = None) -> None:
    """Print a group's students and baselines on the held-out labels, and the notes in words."""
    console = console or wide_console()
    for name, group in result.groups.items():
        if group.held_out is None:
            console.print(f"{name}: no student has predictions of held-out records", markup=False)
        else:
            console.print(_student_table(name, group.held_out.unmasked))
        if group.decision is not None:
            print_decision(name, group.decision, console)
        for note in group.notes:
            console.print(f"  {note}", markup=False)


def _student_table(name: str, figures: StudentTable) -> Table:
    title = f"{name}: {figures.records} held-out records, {figures.cells} cells that can be trusted"
    table = Table(title=title, title_justify="left")
    table.add_column("student")
    for column in ("rho / teacher's ceiling", "rho in sources", "rho across sources", "MAE"):
        table.add_column(column, justify="right")
    for student, own in figures.students.items():
        intervals = (own.of_ceiling, own.rho, own.rho_across, own.mae)
        table.add_row(student, *(_interval(i.value, i.low, i.high) for i in intervals))
    return table


def print_decision(name: str, decision: Decision, console: Console) -> None:
    """Print all ways to score in order of cost, the cheapest that is not worse than the best marked."""
    on = "held-out records" if decision.held_out else "records, cross-fitted"
    rows = []
    for rung in decision.rungs:
        mark = "*" if rung.name == decision.cheapest else ""
        behind = (
            "best" if rung.name == decision.best else _interval(rung.behind.value, rung.behind.low, rung.behind.high)
        )
        speed = f"{rung.records_per_second:,.1f}" if isfinite(rung.records_per_second) else "-"
        cost = f"{rung.cost:,.2f}" if isfinite(rung.cost) else "-"
        figures = (rung.rho, rung.of_ceiling, rung.mae)
        rows.append((f"{rung.name}{mark}", *(_interval(i.value, i.low, i.high) for i in figures), behind, speed, cost))
    columns = ("student", "rho in sources", "rho / ceiling", "MAE", "behind the best", "records/s", "cost per million")
    title = f"{name}: ways to score, from cheap to dear, on {decision.records} {on}; * the cheapest that is not worse"
    print_fitted(console, title, columns, rows)


def print_proxy(result: ProxyResult, console: Console | None = None) -> None:
    """Print what tiny LMs that were trained on each selection predict, and the caveat."""
    console = console or wide_console()
    gold = list(next(iter(result.arms.values())).bits_per_byte)
    rows = []
    for name, arm in result.arms.items():
        rows.append((name, *(f"{arm.bits_per_byte[g].mean:.3f}" for g in gold)))
        if arm.difference:
            rows.append((f"  less {result.baseline}", *(_difference(arm.difference[g]) for g in gold)))
    title = f"Held-out bits per byte, {result.size} size, {len(result.seeds)} seeds, "
    print_fitted(console, f"{title}{result.train_tokens:,} tokens per model", ("arm", *gold), rows)
    console.print(result.caveat)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(value: float | None, low: float, high: float, digits: int = 2) -> str:
    if value is None or not isfinite(value):
        return "-"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _difference(figures: Difference) -> str:
    if figures.low is None or figures.high is None:
        return f"{figures.mean:+.3f}"
    return f"{figures.mean:+.3f} [{figures.low:+.3f}, {figures.high:+.3f}]"
