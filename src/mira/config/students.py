"""Students, their scores, and when a cell is trusted."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mira import plugins
from mira.config.aliases import renamed
from mira.config.base import Settings, Share, known_names
from mira.config.endpoints import EndpointSettings
from mira.config.judging import EmbeddingSettings
from mira.config.paths import BundlePath, FilePath, ModelPath

__all__ = [
    "CascadeSettings",
    "DistillSettings",
    "HeadSettings",
    "ReliabilitySettings",
    "ScoreSettings",
    "SftSettings",
    "WindowSettings",
]


class SftSettings(Settings):
    """Fine-tuning of a causal LM into a student. All values are ours; the paper's are unpublished."""

    model: ModelPath = "Qwen/Qwen3.5-35B-A3B-Base"
    """Base model: a folder, or a name on the hub. Its weights must be safetensors."""
    training: Literal["here", "job"] = renamed("training", "where", default="here")
    """here: tune on this machine. job: only write the files of a Megatron job for a GPU machine."""
    max_length: int = Field(default=65536, ge=16)
    """Tokens of prompt and reply together."""
    max_reply: int = Field(default=2048, ge=8)
    """Maximum tokens of the student's replies. The prompt has the rest of max_length."""
    overflow: Literal["leave_out", "cut"] = "leave_out"
    """Records that do not fit: leave them out, or cut them in the middle as the judge does. Both are counted."""
    references: bool = True
    """Calibration references in the student's prompt. Without them (context distillation) prompts are shorter."""
    slot_order: Literal["fixed", "permuted"] = "permuted"
    """Order of the slots in the student's prompt: fixed, or permuted by a hash of (record, replicate)."""
    slot_subsets: Share = 0.25
    """Share of training examples that ask for a random subset of the slots. With 0 and a fixed order, the student
    cannot be asked for single slots."""
    epochs: float = Field(default=2, gt=0)
    """Passes over the training labels."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate; it decays to 0 along a cosine."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per step."""
    micro_batch: int = Field(default=1, ge=1)
    """Examples in memory at once; must divide batch_size."""
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay."""
    lora_rank: int = Field(default=0, ge=0)
    """0 tunes all parameters. Above 0: rank of LoRA adapters, merged into the weights at the end."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between checkpoints, from which an interrupted run resumes. 0: no checkpoints."""
    chat_template: FilePath = ""
    """A Jinja file, for base models whose tokenizer has no chat template."""

    @model_validator(mode="after")
    def _room_for_a_prompt(self) -> "SftSettings":
        if self.max_reply >= self.max_length:
            raise ValueError(f"max_reply ({self.max_reply}) leaves no room for a prompt in max_length")
        return self


class HeadSettings(Settings):
    """Fine-tuning of an encoder or a small causal LM with one output per slot. All values are ours."""

    model: ModelPath = "answerdotai/ModernBERT-base"
    """Base model: a folder, or a name on the hub. Any encoder or causal LM; its weights must be safetensors."""
    max_length: int = Field(default=1024, ge=64)
    """Tokens of a record that the student reads. Longer records are cut in the middle and noted."""
    target: Literal["auto", "ranks", "zscores"] = "auto"
    """What is learnt of the labels: their ranks within the group, their z-scores, or whichever does better in
    cross-validation on the training split."""
    epochs: float = Field(default=10, gt=0)
    """Maximum passes over the training labels; training stops earlier if `patience` runs out."""
    patience: int = Field(default=3, ge=1)
    """Evaluations without a better within-source rho after which training stops."""
    validation: Annotated[Share, Field(gt=0, lt=1)] = 0.15
    """Share of the training split that is not learnt from but decides when to stop."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate; it decays to 0 along a line. LoRA takes about four times as much."""
    batch_size: int = Field(default=16, ge=1)
    """Records per step."""
    micro_batch: int = Field(default=16, ge=1)
    """Records in memory at once; must divide batch_size."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay."""
    lora_rank: int = Field(default=0, ge=0)
    """0 tunes all parameters. Above 0: rank of LoRA adapters, merged into the weights at the end."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between evaluations and checkpoints, from which an interrupted run resumes. 0: once per epoch."""
    onnx: bool = True
    """Also write the model as ONNX, so that it scores without torch. Left out above 400M parameters."""
    scoring: Literal["auto", "onnx", "torch"] = "auto"
    """How records are scored here if no endpoint is set. auto: torch with a GPU, else ONNX if the bundle has it."""

    @model_validator(mode="after")
    def _whole_steps(self) -> "HeadSettings":
        if self.batch_size % min(self.micro_batch, self.batch_size):
            raise ValueError(f"micro_batch ({self.micro_batch}) does not divide batch_size ({self.batch_size})")
        return self


class CascadeSettings(Settings):
    """What the stronger student judges after the cheap one has scored everything. The values are ours."""

    share: Share = 0.1
    """Judge the records nearest to the threshold, up to this share of each source's tokens."""
    within_errors: float | None = renamed("within_errors", "errors", default=None, ge=0)
    """Instead of `share`: judge records that are within this many errors of the threshold. An error is the cheap
    student's mean error of quality, measured on labels."""
    audit: Share = 0.01
    """Also judge this random share of all records, to compare both students."""
    bundles: dict[str, BundlePath] = Field(default_factory=dict)
    """Group -> the sft or head bundle that distill.endpoint serves, e.g. from another run; without an endpoint, a head
    scores here. Without a bundle, the endpoint counts as a released scorer and is asked with the run's rubric."""

    @model_validator(mode="after")
    def _one_reach(self) -> "CascadeSettings":
        if self.within_errors is not None and "share" in self.model_fields_set:
            raise ValueError("give share or within_errors, not both")
        return self


class WindowSettings(Settings):
    """Long records judged in windows instead of being cut in the middle. The values are ours."""

    tokens: int = Field(default=2048, ge=64)
    """Tokens per window, by the built-in tokenizer qwen3. Records that fit are judged whole."""
    overlap: int = Field(default=128, ge=0)
    """Tokens that neighbouring windows share at least, if `max` windows reach that far."""
    max: int = Field(default=8, ge=1)
    """Windows per record. Longer records are read at evenly spaced windows from head to tail."""
    aggregate: Literal["mean", "min", "max"] = "mean"
    """What a slot takes of its windows' scores."""
    slots: dict[str, Literal["mean", "min", "max"]] = Field(default_factory=dict)
    """Slot -> what it takes instead, e.g. {A3: min} where one bad passage spoils the record."""

    @model_validator(mode="after")
    def _advances(self) -> "WindowSettings":
        if self.overlap > self.tokens // 2:
            raise ValueError(f"overlap ({self.overlap}) must be at most half of tokens ({self.tokens})")
        return self


class DistillSettings(Settings):
    """The student of each group."""

    student: Literal["encoder", "head", "sft", "endpoint", "bundle"] = "encoder"
    """encoder: trained here in seconds. head: a fine-tuned encoder or small LM with one output per slot. sft: a
    fine-tuned causal LM that writes scores. endpoint: a released scorer that you serve. bundle: existing scorer
    bundles, see `bundles`."""
    bundles: dict[str, BundlePath] = Field(default_factory=dict)
    """Group -> scorer bundle to use unchanged, e.g. a pulled one. Required for `bundle` students."""
    endpoint: EndpointSettings | None = None
    """Where the student is served. Required for `endpoint` students, and to score with an `sft` student. A `head`
    student scores here without one."""
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict)
    """Group -> where its student is served, if groups have their own endpoints."""
    compare: list[BundlePath] = Field(default_factory=list)
    """Other scorer bundles, or folders of bundles, to compare with this run's students (`mira students`)."""
    head: HeadSettings = HeadSettings()
    sft: SftSettings = SftSettings()
    cascade: CascadeSettings = CascadeSettings()
    folds: int = Field(default=5, ge=2)
    """Folds of cross-validation."""
    tolerance: Share = 0.01
    """Cheaper features are preferred if their cross-validated Spearman is at most this much below the best."""

    embedding: EmbeddingSettings | None = None
    """Embedder of the encoder student, if another than that of `embedding`."""
    windows: WindowSettings | None = None
    """Score long records in windows, and train the encoder on them. Every window is a request of its own where the
    student is served. Without it, served students see long records cut in the middle, and the encoder sees head and
    tail."""
    detail: bool = False
    """The encoder also reads some 160 statistics of the text: the syntax tree of Python, prose, head against tail, and
    for agents how the trace goes and ends. They cost about twice the other features' time."""

    @model_validator(mode="after")
    def _windows_of_this_student(self) -> "DistillSettings":
        if self.windows and self.student == "head":
            raise ValueError(
                "windows: a head student is tuned on whole records; leave windows out, or use another student"
            )
        return self

    def endpoint_of(self, group: str) -> EndpointSettings | None:
        """Return where a group's student is served."""
        return self.endpoints.get(group, self.endpoint)


class ScoreSettings(Settings):
    """Scoring of every record."""

    workers: int = Field(default=0, ge=0)
    """Worker processes of every stage that works shard by shard. 0 means one per core."""
    engine: Annotated[str, AfterValidator(known_names(plugins.ENGINES))] = "local"
    """Where shards run: local (processes here) or ray (Ray tasks; the run folder must be on shared storage)."""
    price_per_hour: float = Field(default=0, ge=0)
    """Price of an hour of one core of this machine, or of its GPU, for the cost of scoring in `mira students`."""


class ReliabilitySettings(Settings):
    """When a (source, slot) cell is trusted. The thresholds are ours; the paper's are unpublished."""

    min_n: int = Field(default=30, ge=2)
    """Cells with fewer labels are pooled up to their group."""
    min_rho: float = Field(default=0.3, ge=-1, le=1)
    """A cell's Spearman interval must have at least this lower bound."""
    min_skill: float = Field(default=0.0)
    """A cell's skill over the constant predictor (1 - MAE/MAE_constant) must exceed this."""
    min_spread: float = Field(default=0.25, ge=0)
    """A cell has collapsed if the teacher's scores have a smaller standard deviation (0-10 scale)."""
    max_tied: Share = 0.9
    """A cell has collapsed if at least this share of the teacher's labels have the same score."""
    min_pairs: int = Field(default=20, ge=3)
    """Twice-judged records required for a source's own ceiling. With fewer, the group's are used."""
    interval: Annotated[Share, Field(gt=0, lt=1)] = 0.90
    """Confidence of the bootstrap interval."""
    bootstrap: int = Field(default=1000, ge=100)
    """Bootstrap resamples. Sources with more than 5,000 labels use fewer, but at least 200."""
    mask: FilePath = ""
    """A mask to use without labels, e.g. a released one (JSONL: source, slot, why)."""
