"""mira.yaml: typed settings, one class per section. `mira init` writes each field's description beside it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from mira.config.base import Settings, Share
from mira.config.endpoints import DataManEndpoint, EndpointSettings, PplEndpoint
from mira.config.judging import (
    DiscoverSettings,
    EmbeddingSettings,
    GroupSettings,
    LabelSettings,
    SourceSettings,
    TeacherSettings,
)
from mira.config.paths import RunPath, TokenizerPath
from mira.config.scores import ForeignSettings, ScoreName
from mira.config.selection import (
    BenchmarkSettings,
    ColumnSettings,
    DataManSettings,
    DsirSettings,
    FlagSettings,
    GateSettings,
    LengthSettings,
    PplSettings,
    SelectSettings,
)
from mira.config.students import (
    CascadeSettings,
    DistillSettings,
    HeadSettings,
    ReliabilitySettings,
    ScoreSettings,
    SftSettings,
    WindowSettings,
)

__all__ = [
    "BenchmarkSettings",
    "CascadeSettings",
    "ColumnSettings",
    "Config",
    "CorpusSettings",
    "DataManEndpoint",
    "DataManSettings",
    "DiscoverSettings",
    "DistillSettings",
    "DsirSettings",
    "EmbeddingSettings",
    "EndpointSettings",
    "EvaluateSettings",
    "FlagSettings",
    "ForeignSettings",
    "GateSettings",
    "GroupSettings",
    "HeadSettings",
    "LabelSettings",
    "LengthSettings",
    "PplEndpoint",
    "PplSettings",
    "ProxySettings",
    "ReliabilitySettings",
    "ReviewSettings",
    "ScoreSettings",
    "SelectSettings",
    "SftSettings",
    "SourceSettings",
    "StudentSettings",
    "TeacherSettings",
    "WindowSettings",
]


class ProxySettings(Settings):
    """A tiny LM trained on each method's selection (`pip install 'mira-select[train]'`). All values are ours."""

    gold: list[SourceSettings] = Field(default_factory=list)
    """Further gold sets, one per source: text to measure every model on, never to train on."""
    overlap: Annotated[Share, Field(gt=0)] = 0.2
    """Texts that share at least this much with a gold text are left out of every arm."""


class EvaluateSettings(Settings):
    """What a selection is worth."""

    planted: int = Field(default=20, ge=0)
    """Records per source to spoil, one copy per fault, for the student to score. 0: none."""
    subtle: int = Field(default=20, ge=0)
    """Records per source to spoil so that they still look like good text: negated statements, one changed token of
    code, the answer to a similar question, a failed call reported as success. 0: none."""
    methods: list[Literal["random", "dsir", "ppl", "dataman"]] = Field(default=["random", "dsir", "ppl"])
    """Selection methods that value the spoiled copies too. dsir and ppl are fitted first where that has not been done,
    which reads the corpus; dataman, and ppl with an endpoint, send originals and copies to the model that judges the
    corpus. Methods that cannot run are reported and skipped."""
    interval: Annotated[Share, Field(gt=0, lt=1)] = 0.95
    """Confidence of the intervals."""
    check_field: str = ""
    """Field that says what was done to a record, e.g. meta.perturbed; no judge and no student reads it. `mira evaluate`
    tells how well quality tells such records from clean ones: those with "none", "clean", "", false or 0 there."""
    proxy: ProxySettings = ProxySettings()


class ReviewSettings(Settings):
    """Judgements of people on a blind sample: `mira review`. All values are ours."""

    sample: int = Field(default=200, ge=2)
    """Records to draw from the selection, kept and dropped ones. The sample stays as it is once judgements exist."""
    near: Share = 0.5
    """Share of the sample that comes from the quarter of each source's kept, and of its dropped, records that are
    nearest to the threshold."""
    labelled: Share = 0.2
    """Share of the sample that comes from records that the teacher has judged, so that both can be compared."""
    precision: Annotated[Share, Field(gt=0, lt=1)] = 0.9
    """Share of the kept records that reviewers should keep, too. The report says which budget reaches it: there the
    lower end of the interval is not below this."""
    interval: Annotated[Share, Field(gt=0, lt=1)] = 0.95
    """Confidence of the intervals."""


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    """What of the settings says how the corpus is read: `Config.corpus`.

    Attributes:
        run: The run folder, where the index and the fingerprints of files are.
        sources: The sources.
        tokenizer: Name or path of the tokenizer that counts the records' tokens.
        shard_bytes: Bytes per shard of plain JSONL files.
        max_record_bytes: Longer lines and rows are rejected.
    """

    run: Path
    sources: Sequence[SourceSettings]
    tokenizer: str
    shard_bytes: int
    max_record_bytes: int

    def source(self, name: str) -> SourceSettings:
        """Return the settings of source `name`.

        Raises:
            KeyError: There is no such source.
        """
        return {source.name: source for source in self.sources}[name]


@dataclass(frozen=True, slots=True)
class StudentSettings:
    """What of the settings says how a student is opened: `Config.students`.

    Attributes:
        distill: Where students are served.
        embedding: How an encoder's texts become vectors.
        teacher: Limits on cost and requests, which hold for served students too, and whether anything is sent.
        discover: What prompts call the records.
    """

    distill: DistillSettings
    embedding: EmbeddingSettings
    teacher: TeacherSettings
    discover: DiscoverSettings


_WITHOUT_EFFECT = ("score.", "teacher.max_cost=", "teacher.max_requests=", "teacher.failure_budget=")


def _read_before(include: str | list[str]) -> str | list[str]:
    if include:
        raise ValueError("only mira.load_config reads included files")
    return include


class Config(Settings):
    """The settings in mira.yaml."""

    include: Annotated[str | list[str], AfterValidator(_read_before)] = Field(default_factory=list)
    """Other settings files that this one builds on, relative to this file. Later files win, and this file wins over
    all of them. Lists of sources and benchmarks are merged by name."""
    run: RunPath = Path("run")
    """The run folder."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of every sample, split and clustering."""
    tokenizer: TokenizerPath = "qwen3"
    """Tokenizer for counting budgets: qwen3, cl100k_base, o200k_base, llama3, or a path to tokenizer.json."""
    shard_bytes: int = Field(default=256 * 2**20, ge=1024)
    """Bytes per shard of plain JSONL files. Compressed files and tables are one shard each."""
    max_record_bytes: int = Field(default=64 * 2**20, ge=1024)
    """Longer lines and rows are rejected."""
    sources: list[SourceSettings] = Field(min_length=1)
    """The sources."""
    teacher: TeacherSettings = TeacherSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    group: GroupSettings = GroupSettings()
    discover: DiscoverSettings = DiscoverSettings()
    label: LabelSettings = LabelSettings()
    distill: DistillSettings = DistillSettings()
    score: ScoreSettings = ScoreSettings()
    reliability: ReliabilitySettings = ReliabilitySettings()
    flags: FlagSettings = FlagSettings()
    scores: dict[ScoreName, ForeignSettings] = Field(default_factory=dict)
    """Scores that other programs gave the records, by names of your own, e.g.
    {edu: {path: scores/*.parquet, column: score, range: [0, 5]}}."""
    select: SelectSettings = SelectSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    review: ReviewSettings = ReviewSettings()
    _file_name: str = PrivateAttr("mira.yaml")
    _overrides: tuple[str, ...] = PrivateAttr(())

    def given_by(self, file_name: str, overrides: Sequence[str]) -> None:
        """Note where the settings come from, for commands that messages and pages show."""
        self._file_name, self._overrides = file_name, tuple(overrides)

    @property
    def file_name(self) -> str:
        """Name of the settings file, without its folder; mira.yaml if the settings come from elsewhere."""
        return self._file_name

    @property
    def arguments(self) -> str:
        """The settings as a command takes them, for a shell: the file, and what the command line changed.

        Changes that have no effect on results are left out: limits, and where and how records are scored.
        """
        changes = [text for text in self._overrides if not text.startswith(_WITHOUT_EFFECT)]
        return " ".join([shlex.quote(self._file_name), *(f"--set {shlex.quote(text)}" for text in changes)])

    def source(self, name: str) -> SourceSettings:
        """Return the settings of source `name`.

        Raises:
            KeyError: There is no such source.
        """
        return self.corpus.source(name)

    @property
    def corpus(self) -> CorpusSettings:
        """What the rooms below need to find and read records."""
        return CorpusSettings(self.run, self.sources, self.tokenizer, self.shard_bytes, self.max_record_bytes)

    @property
    def students(self) -> StudentSettings:
        """What the rooms below need to open a student."""
        return StudentSettings(self.distill, self.distill.embedding or self.embedding, self.teacher, self.discover)
