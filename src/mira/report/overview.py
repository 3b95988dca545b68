"""What was kept: totals, sources, scopes, reasons, provenance. Counts come from thresholds.json and the index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mira import corpus
from mira._version import __version__
from mira.config.settings import CorpusSettings, TeacherSettings
from mira.config.tokens import Tokens
from mira.corpus.record import Rejection
from mira.demo_files import recorded
from mira.report.charts import Segment, stack
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.values import GATED
from mira.unscored import Unscored

__all__ = ["Fingerprint", "Overview", "Reason", "ScopeRow", "SourceRow", "Tally", "made_for_demo", "overview"]

_WORDS: Mapping[str, str] = {
    "kept": "at or above the cutoff",
    "below_threshold": "below the cutoff",
    "floor": "kept by the source's floor",
    "cap": "dropped by the source's cap",
    "does_not_fit": "above the cutoff, but too long for the rest of the budget",
    "masked_source": "every slot of the source is masked: kept or dropped at random",
    f"unscored:{Unscored.OVERFLOW}": "does not fit the judge's context",
    f"unscored:{Unscored.REFUSED}": "the judge declined",
    f"unscored:{Unscored.TRUNCATED}": "the reply ended too early",
    f"unscored:{Unscored.UNPARSABLE}": "the reply could not be read",
    f"unscored:{Unscored.MISSING_SLOT}": "too few slots are scored",
    f"unscored:{Unscored.NO_NUMBER}": "a slot has no number",
    f"unscored:{Unscored.OUT_OF_RANGE}": "a score is out of range",
    f"unscored:{Unscored.AMBIGUOUS}": "a slot was answered twice, differently",
    f"unscored:{Unscored.ENDPOINT_ERROR}": "no reply after all retries",
    f"unscored:{Unscored.NOT_RECORDED}": "no recorded reply",
    f"unscored:{Unscored.NOT_FINITE}": "the student's score is not finite",
    f"rejected:{Rejection.BAD_JSON}": "the line is not JSON",
    f"rejected:{Rejection.NOT_AN_OBJECT}": "the line is not a JSON object",
    f"rejected:{Rejection.INVALID_UTF8}": "the line is not valid UTF-8",
    f"rejected:{Rejection.MISSING_FIELD}": "a field is missing",
    f"rejected:{Rejection.BAD_FIELD}": "a field is of the wrong type",
    f"rejected:{Rejection.EMPTY_TEXT}": "there is no text",
    f"rejected:{Rejection.DUPLICATE_ID}": "its id came before",
    f"rejected:{Rejection.TOO_LONG}": "longer than max_record_bytes",
    f"rejected:{Rejection.TRUNCATED_FILE}": "the file ends early or is damaged",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why records of a source had their fate, and how many."""

    name: str
    words: str
    records: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Records and tokens of one source, or of all. `rows` = kept + dropped + unscored + rejected.

    Tokens are of valid records: a rejected line has none.
    """

    rows: int
    kept: int
    dropped: int
    unscored: int
    rejected: int
    tokens_in: int
    tokens_kept: int

    @property
    def told(self) -> int:
        """Records accounted for."""
        return self.kept + self.dropped + self.unscored + self.rejected

    @property
    def share_records(self) -> float:
        """Share of rows that were kept, 0..1."""
        return self.kept / self.rows if self.rows else 0.0

    @property
    def share_tokens(self) -> float:
        """Share of valid records' tokens that were kept, 0..1."""
        return self.tokens_kept / self.tokens_in if self.tokens_in else 0.0

    @property
    def records_bar(self) -> tuple[Segment, ...]:
        """Records by fate."""
        return stack(
            [("kept", self.kept), ("dropped", self.dropped), ("unscored", self.unscored), ("rejected", self.rejected)]
        )

    @property
    def tokens_bar(self) -> tuple[Segment, ...]:
        """Tokens by fate."""
        return stack([("kept", self.tokens_kept), ("dropped", self.tokens_in - self.tokens_kept)])


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source.

    Attributes:
        name: Its name.
        group: Its group, or "".
        scope: Where its records compete, or "" where nothing of it does or its domains compete apart.
        threshold: Its cutoff, or None if missing on the scale of quality.
        tally: What became of its records.
        reasons: Why.
    """

    name: str
    group: str
    scope: str
    threshold: float | None
    tally: Tally
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """One scope: records that compete with each other.

    Attributes:
        key: Its name.
        threshold: Its cutoff, or None.
        on_quality: Whether the cutoff is on the scale of quality: not where noise was added, length was taken out, or
            nearness to the median is what counts.
        budget_tokens: Tokens that it may keep.
        tokens_in: Tokens of its valid records.
        tokens_kept: Tokens that it keeps.
        records_in: Valid records.
        records_kept: Records that it keeps.
        sources: Their sources.
    """

    key: str
    threshold: float | None
    on_quality: bool
    budget_tokens: int | None
    tokens_in: int
    tokens_kept: int
    records_in: int
    records_kept: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the manifest says of a stage: the hashes of its inputs and of its output."""

    stage: str
    inputs: str
    output: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The head and foot of the page.

    Attributes:
        run: Name of the run folder.
        method: Selection method.
        scope: Where records competed.
        budget: As asked for: "50%", "25B".
        budget_tokens: In tokens.
        tokenizer: What counted them.
        seed: The run's seed.
        temperature: Noise of the ranking; 0 is none.
        total: All sources.
        sources: In the order of the configuration.
        scopes: In the order of their sources.
        notes: What selection says of itself.
        demo: The teacher's replies are those of the demo.
        version: mira's version.
        settings: Hash of the settings that the stages depend on; the same wherever the project lies. "" where unknown.
        fingerprints: One a stage that the manifest knows, in order.
    """

    run: str
    method: str
    scope: str
    budget: str
    budget_tokens: int
    tokenizer: str
    seed: int
    temperature: float
    total: Tally
    sources: tuple[SourceRow, ...]
    scopes: tuple[ScopeRow, ...]
    notes: tuple[str, ...]
    demo: bool
    version: str
    settings: str
    fingerprints: tuple[Fingerprint, ...] = field(default=())

    @property
    def has_reasons(self) -> bool:
        """Whether anything happened to a record besides being above or below the cutoff."""
        return any(r.name not in ("kept", "below_threshold") for s in self.sources for r in s.reasons)


def overview(
    settings: CorpusSettings,
    run: RunFolder,
    thresholds: Mapping[str, Any],
    group_of: Mapping[str, str],
    manifest: Mapping[str, Any],
    *,
    budget: Tokens,
    seed: int,
    demo: bool,
) -> Overview:
    """Collect the head and foot of the page.

    Args:
        settings: How the corpus is read.
        run: The run folder.
        thresholds: thresholds.json.
        group_of: Source -> group.
        manifest: manifest.json, or {} if missing.
        budget: The budget, as it was written.
        seed: The run's seed.
        demo: Whether the teacher's replies are the demo's.

    Raises:
        RunError: A source is not indexed.
    """
    rejected = {name: found["rejected"] for name, found in corpus.totals(settings, run).items()}
    order = [s.name for s in settings.sources if s.name in thresholds["sources"]]
    rows = [_scope(key, entry, order) for key, entry in thresholds["scopes"].items()]
    scopes = {row.key: row for row in sorted(rows, key=lambda row: [order.index(name) for name in row.sources])}
    sources = tuple(
        _source(name, thresholds["sources"][name], group_of.get(name, ""), rejected.get(name, {}), scopes)
        for name in order
    )
    return Overview(
        run=f"{settings.run}".rpartition("/")[2],
        method=str(thresholds["method"]),
        scope=str(thresholds["scope"]),
        budget=str(budget),
        budget_tokens=int(thresholds["budget_tokens"]),
        tokenizer=settings.tokenizer,
        seed=seed,
        temperature=float(thresholds.get("temperature") or 0.0),
        total=_sum([s.tally for s in sources]),
        sources=sources,
        scopes=tuple(scopes.values()),
        notes=tuple(thresholds.get("notes", ())),
        demo=demo,
        version=__version__,
        settings=_settings_hash(manifest),
        fingerprints=tuple(_fingerprints(manifest)),
    )


def made_for_demo(teacher: TeacherSettings) -> bool:
    """Tell whether the teacher's replies are, line by line, among those that ship with mira for its demo."""
    replies = Path(teacher.replies) if teacher.replies else None
    if replies is None or not replies.is_file():
        return False
    shipped = recorded("teacher_replies.jsonl")
    if not 0 < replies.stat().st_size <= len(shipped):
        return False
    return set(replies.read_bytes().splitlines()) <= set(shipped.splitlines())


def _source(
    name: str,
    entry: Mapping[str, Any],
    group: str,
    rejected: Mapping[str, int],
    scopes: Mapping[str, ScopeRow],
) -> SourceRow:
    scope = scopes.get(entry["scope"])
    counted = [*entry["reasons"].items(), *((f"rejected:{reason}", n) for reason, n in sorted(rejected.items()))]
    fields = ("rows", "kept", "dropped", "unscored", "rejected", "tokens_in", "tokens_kept")
    return SourceRow(
        name=name,
        group=group,
        scope=entry["scope"] or "",
        threshold=entry["threshold"] if scope and scope.on_quality else None,
        tally=Tally(**{f: int(entry[f]) for f in fields}),
        reasons=tuple(Reason(reason, _words(reason), int(n)) for reason, n in counted if n),
    )


def _words(reason: str) -> str:
    kind, _, value = reason.partition(":")
    if reason.startswith(GATED):
        return f"no value of the gate {value}" if kind == "gate_missing" else f"below the floor of the gate {value}"
    return _WORDS.get(reason, "")


def _scope(key: str, entry: Mapping[str, Any], order: Sequence[str]) -> ScopeRow:
    return ScopeRow(
        key=key,
        threshold=entry["threshold"],
        on_quality=not {"mean", "median", "length"} & entry.keys(),
        budget_tokens=entry.get("budget_tokens"),
        tokens_in=entry["tokens_in"],
        tokens_kept=entry["tokens_kept"],
        records_in=entry["records_in"],
        records_kept=entry["records_kept"],
        sources=tuple(name for name in order if name in entry["sources"]),
    )


def _sum(tallies: Sequence[Tally]) -> Tally:
    fields = Tally.__dataclass_fields__
    return Tally(**{name: sum(getattr(t, name) for t in tallies) for name in fields})


def _settings_hash(manifest: Mapping[str, Any]) -> str:
    stages: Mapping[str, Any] = manifest.get("stages", {})
    found = {name: e.get("inputs", {}).get("settings") for name, e in stages.items() if name != "report"}
    return hash_json(found) if any(found.values()) else ""


def _fingerprints(manifest: Mapping[str, Any]) -> list[Fingerprint]:
    stages: Mapping[str, Any] = manifest.get("stages", {})
    return [
        Fingerprint(name, str(entry.get("fingerprint", "")), str(entry.get("digest", "")))
        for name, entry in stages.items()
        if name != "report"
    ]
