"""What `mira discover` and `mira label` print: what they asked, what it cost, and what is left."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from mira import corpus
from mira.cli.fitted import print_fitted, wide_console
from mira.config.settings import Config, TeacherSettings
from mira.errors import MiraError
from mira.llm.spent import Spent, read_spent, total
from mira.pipeline.runner import stage_states
from mira.pipeline.unanswered import count_unanswered
from mira.progress import Quiet, printable
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder

__all__ = ["print_judged", "print_left"]


def print_judged(config: Config, stage: str, *, ran: bool, console: Console | None = None) -> None:
    """Print the tables of a finished `discover` or `label`.

    Args:
        config: The settings.
        stage: "discover" or "label".
        ran: Whether this command ran the stage; else the tables are about its last run.
        console: Where to print; standard output by default.
    """
    console = console or wide_console()
    run = RunFolder(config.run)
    summary = read_json(run.manifest)["stages"][stage]["summary"]
    groups: Mapping[str, Mapping[str, Any]] = summary.get("groups") or {}
    asked = [entry for name, group in groups.items() for entry in read_spent({name: group.get("requests")})]
    if asked:
        _print_asked(console, stage, asked, config.teacher, ran=ran)
    if not groups:
        return
    if stage == "label" or any("records" in group for group in groups.values()):
        _print_sources(console, config, run, stage, groups)
    if stage == "discover":
        for name, group in groups.items():
            _print_clusters(console, name, group)
    for line in _budgets(stage, config.teacher, groups, total(asked), ran=ran):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_left(config: Config, stage: str, console: Console | None = None) -> None:
    """Print what a stopped `discover` or `label` has replies for, and what is left; nothing if that is unknown."""
    console = console or wide_console()
    try:
        states = [state for state in stage_states(config) if stage == "label" or state.stage.name != "label"]
        found = count_unanswered(config, states, {}, Quiet()).get(stage)
    except MiraError:
        return
    if found is None:
        return
    said = f"{found.answered:,} requests are answered and in the journal. Those left:"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    rows = [(source, f"{n:,}") for source, n in found.left.items()]
    print_fitted(console, "", ("source", "requests"), rows, ("all", f"{sum(found.left.values()):,}"))


def _print_asked(console: Console, stage: str, asked: list[Spent], teacher: TeacherSettings, *, ran: bool) -> None:
    when = "" if ran else ", in its last run; this command asked nothing"
    columns = (
        "group", "model", "asked", "sent again", "from the journal", "no reply", "tokens in", "tokens out", "cost"
    )  # fmt: skip
    endpoint = teacher.endpoint
    priced = endpoint is not None and bool(endpoint.price_in or endpoint.price_out)
    rows = [_row(entry, priced) for entry in asked]
    sums = _row(total(asked), priced) if len(asked) > 1 else ()
    print_fitted(console, f"What {stage} asked and spent{when}", columns, rows, sums)


def _row(entry: Spent, priced: bool) -> list[str]:
    return [
        entry.group,
        ", ".join(entry.models),
        f"{entry.sent - sum(entry.retries.values()):,}",
        _reasons(entry.retries),
        f"{entry.from_journal:,}",
        _reasons(entry.failures),
        f"{entry.tokens_in:,}",
        f"{entry.tokens_out:,}",
        f"{entry.cost:,.4f}" if priced else "no price set",
    ]


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {why}" for why, n in counts.items()) or "0"


def _print_sources(
    console: Console, config: Config, run: RunFolder, stage: str, groups: Mapping[str, Mapping[str, Any]]
) -> None:
    title = "Records judged, and what is missing" if stage == "label" else "Records judged freely"
    columns = ("source", "group", "judged", "of the corpus", f"{stage}.sample", "missing", "why")
    totals = corpus.totals(config.corpus, run)
    recorded = bool(config.teacher.replies if stage == "label" else config.teacher.free_judgments)
    sample = config.label.sample if stage == "label" else config.discover.sample
    rows = []
    for name, group in groups.items():
        for source in sorted({*group.get("records", {}), *group.get("unscored", {})}):
            missing = group.get("unscored", {}).get(source, {})
            valid = totals[source]["valid"] if source in totals else 0
            rows.append([
                source, name, f"{group.get('records', {}).get(source, 0):,}", f"{valid:,}",
                "recorded" if recorded else f"{min(sample, valid):,}", f"{sum(missing.values()):,}",
                _reasons(missing) if missing else "",
            ])  # fmt: skip
    print_fitted(console, title, columns, rows)


def _print_clusters(console: Console, name: str, group: Mapping[str, Any]) -> None:
    """Print the discovery record of a group: how far its clusters hold together."""
    record = group.get("clusters")
    if not record:
        return
    given = group.get("from") == "given"
    note = " (the group's rubric was given; this is what its free judgments would give)" if given else ""
    title = f"{name}: {record['points']:,} points of {record['records']:,} records, named by {record['name_by']}{note}"
    columns = ("slot", "name", "points", "cohesion", "stability", "covered", "commonest names")
    rows = [
        [
            c["slot"], c["name"], f"{c['points']:,}", _figure(c["cohesion"]), _figure(c["stability"]),
            "-" if c["covered"] is None else f"{c['covered']:.0%}",
            ", ".join(f"{other} ({count})" for other, count in c["names"]),
        ]
        for c in record["clusters"]
    ]  # fmt: skip
    print_fitted(console, title, columns, rows)
    for line in () if given else record["advice"]:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _budgets(
    stage: str, teacher: TeacherSettings, groups: Mapping[str, Mapping[str, Any]], spent: Spent, *, ran: bool
) -> list[str]:
    """Say what is left of the limits."""
    told = []
    if ran and teacher.max_cost is not None:
        told.append(f"Of max_cost {teacher.max_cost:,.4f}, {max(teacher.max_cost - spent.cost, 0):,.4f} is left.")
    if ran and teacher.max_requests is not None:
        told.append(
            f"Of max_requests {teacher.max_requests:,}, {max(teacher.max_requests - spent.sent, 0):,} are left."
        )
    judged = sum(group.get("judgements", group.get("asked", 0)) for group in groups.values())
    if judged:
        missing = sum(
            sum(counts.values()) for group in groups.values() for counts in group.get("unscored", {}).values()
        )
        told.append(
            f"Unscored: {missing:,} of {judged:,} judgements ({missing / judged:.1%}); the failure budget is "
            f"{teacher.failure_budget:.1%}."
        )
    return told
