"""Sources, the teacher, and what it is asked: grouping, discovery, labels."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mira import plugins
from mira.config.base import HEADER, Settings, Share, known_names
from mira.config.endpoints import EndpointSettings
from mira.config.paths import FilePath, ModelPath, SourcePath

__all__ = [
    "DiscoverSettings",
    "EmbeddingSettings",
    "GroupSettings",
    "LabelSettings",
    "SourceSettings",
    "TeacherSettings",
]


FamilyField = Annotated[str, AfterValidator(known_names(plugins.FAMILIES))]


class SourceSettings(Settings):
    """A source: where its records are and how to read them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    """Short name, used in folders."""
    path: SourcePath | list[SourcePath]
    """Files, globs or fsspec URLs: JSONL (plain, .gz, .zst, .bz2, .xz), Parquet, or a Hugging Face dataset folder."""
    family: FamilyField = "text"
    """text, qa, qa_with_think or agent; installed packages add others."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Field mapping, mira's name -> yours, e.g. {text: content, id: uid}. A dot goes into nested objects."""
    language: str = ""
    """A note for readers; mira does not use it."""


class TeacherSettings(Settings):
    """The frontier judge: an endpoint, or replies recorded earlier."""

    endpoint: EndpointSettings | None = None
    """A live teacher."""
    free_judgments: FilePath = ""
    """Recorded free-form judgments, instead of a live Phase 1 (JSONL: id, source, points)."""
    replies: FilePath = ""
    """Recorded replies, instead of a live Phase 2 (JSONL: id, source, replicate, reply; or OpenAI batch results)."""
    judge: Annotated[str, AfterValidator(known_names(plugins.JUDGES))] = "built-in"
    """Who scores on the rubric in Phase 2. `built-in` is the endpoint; installed packages add other names."""
    offline: bool = False
    """Send nothing. Write requests to batch files with --export, and read replies with --import."""
    failure_budget: Share = 0.01
    """Share of records that may stay unscored. Above it, the command fails."""
    max_cost: float | None = Field(default=None, ge=0)
    """Stop before the total cost exceeds this amount. Rerun to resume."""
    max_requests: int | None = Field(default=None, ge=0)
    """Stop before sending more requests than this. Rerun to resume."""

    @property
    def labels(self) -> bool:
        """Whether anything can score on a rubric: an endpoint, recorded replies or an installed judge."""
        return bool(self.endpoint or self.replies or self.judge != "built-in")


class EmbeddingSettings(Settings):
    """How texts become unit vectors."""

    model: ModelPath = "minilm"
    """minilm (built in, offline), static (mean of token vectors distilled from minilm: much faster, less exact; reads
    no windows), a sentence-transformers model by name or folder (extra embed), or the /v1 base URL of an embeddings
    endpoint."""
    windows: int = Field(default=3, ge=1)
    """Windows read from a long text, evenly spaced from head to tail. Their vectors are averaged (ours)."""
    window_tokens: int = Field(default=64, ge=8, le=256)
    """Maximum tokens per window (ours)."""
    layer: Annotated[Share, Field(gt=0)] | None = None
    """Makes `model` a causal LM of transformers (extra train), read at this depth: 0.6 is the 18th of 30 layers. A
    text's vector is the mean of that layer's states."""
    max_tokens: int = Field(default=1536, ge=8)
    """With `layer`: tokens read, from the head of the text."""
    endpoint_model: str = ""
    """Model name as the endpoint knows it. Default: the only model that it lists."""
    api_key_env: str = ""
    """Environment variable with the endpoint's key."""
    api_key_header: Annotated[str, Field(pattern=HEADER)] = "Authorization"
    """Header for the key; see teacher.endpoint."""
    headers: dict[Annotated[str, Field(pattern=HEADER)], str] = Field(default_factory=dict)
    """Further headers: name -> environment variable with its value."""
    timeout_s: float = Field(default=60, gt=0)
    """Seconds to wait for one reply."""
    max_retries: int = Field(default=5, ge=0)
    """Retries of a request before it counts as failed."""


class GroupSettings(Settings):
    """Clustering of sources into groups."""

    k: int | dict[FamilyField, int] | Literal["auto"] = "auto"
    """Groups per family: a number, a number for each family, or auto (by silhouette)."""
    sample: int = Field(default=200, ge=1)
    """Records per source for its mean vector."""
    given: dict[str, list[str]] = Field(default_factory=dict)
    """Groups set by hand instead of by clustering: name -> sources, e.g. {text_group_A: [pr_issue, deepwiki]}."""
    new_sources: Literal["cluster", "nearest"] = "cluster"
    """Sources that `given` does not name. cluster: they form groups of their own. nearest: each joins the given group
    of its family whose mean vector is nearest, if the family has one; `mira freeze` sets this."""


class DiscoverSettings(Settings):
    """Free-form judging and clustering of judgment points into anchors."""

    sample: int = Field(default=500, ge=1)
    """Records per source that the teacher judges freely."""
    slots: int = Field(default=15, ge=1, le=99)
    """Anchors per group."""
    references: int = Field(default=12, ge=0, le=12)
    """How many of the largest slots have calibration references in the system prompt: 12 in the model card. With 0, the
    exemplars of the 12 largest slots take their place."""
    name_weight: Share = 0.85
    """Weight of a dimension's name, against its reason, in the embedding of a judgment point (ours)."""
    name_by: Literal["medoid", "common_words"] = "medoid"
    """Which judgment point names a slot. medoid, the method's rule: the point nearest to the cluster's centroid.
    common_words (ours): the nearest one whose name carries the cluster's two commonest words."""
    rubrics: dict[str, FilePath] = Field(default_factory=dict)
    """Group -> rubric file to use unchanged, e.g. a released one. Such a group is not discovered."""
    corpus: str = "training data for the mid-training of a code-oriented language model"
    """What the records are judged as: prompts begin "You judge records of RECORDS as CORPUS"."""
    records: dict[FamilyField, str] = Field(default_factory=dict)
    """Family -> what its records are, in the words of prompts, e.g. {text: a corpus of court decisions}. By default
    text is "a code-task documentation corpus", as in the model card: say here what yours is. Another `corpus` or
    `records` makes another prompt, so the teacher is asked again."""


class LabelSettings(Settings):
    """Teacher judgements on the fixed anchors."""

    sample: int = Field(default=2000, ge=1)
    """Records per source that the teacher labels."""
    replicates: Share = 0.1
    """Share of them judged twice, to measure the teacher's own consistency (test-retest)."""
    held_out: Share = 0.2
    """Share of labelled records kept out of training, by a hash of the id."""
