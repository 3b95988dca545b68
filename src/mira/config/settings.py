"""mira.yaml: typed settings. Every field's description is what `mira init` writes beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mira import plugins
from mira.config.paths import BundlePath, FilePath, ModelPath, RunPath, SourcePath, TokenizerPath
from mira.config.tokens import Tokens, TokensField
from mira.family import FamilyName

__all__ = [
    "BenchmarkSettings",
    "CascadeSettings",
    "Config",
    "DataManEndpoint",
    "DataManSettings",
    "DiscoverSettings",
    "DistillSettings",
    "DsirSettings",
    "EndpointSettings",
    "EvaluateSettings",
    "FlagSettings",
    "GroupSettings",
    "LabelSettings",
    "PplEndpoint",
    "PplSettings",
    "ProxySettings",
    "ReliabilitySettings",
    "ScoreSettings",
    "SelectSettings",
    "SftSettings",
    "SourceSettings",
    "TeacherSettings",
]

_HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
Fraction = Annotated[float, Field(ge=0, le=1)]


def _known(kind: str) -> Callable[[str], str]:
    """Return a check that a name is built in, or added by an installed package."""

    def check(name: str) -> str:
        if name not in (known := plugins.names(kind)):
            raise ValueError(f"input should be {', '.join(map(repr, known))}")
        return name

    return check


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SourceSettings(Settings):
    """One source: where its records are and how to read them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    """Short name, used in folders."""
    path: SourcePath | list[SourcePath]
    """Files, globs or fsspec URLs: JSONL (plain, .gz, .zst, .bz2, .xz), Parquet, or a Hugging Face dataset folder."""
    family: FamilyName = FamilyName.TEXT
    """text, qa, qa_with_think or agent."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Field mapping, mira's name -> yours, e.g. {text: content, id: uid}. A dot goes into nested objects."""
    language: str = ""
    """For people; not used."""


class EndpointSettings(Settings):
    """An OpenAI-compatible chat endpoint."""

    base_url: str | list[str]
    """Base URL ending in /v1; several URLs are replicas of one model. It may end in a query such as ?api-version=..."""
    model: str
    """Model name as the endpoint knows it."""
    identity: str = ""
    """Name of what is served, e.g. a model's revision. Replies are reused only under the same name, and the first base
    URL stands for it where it is empty: replicas behind the first come and go freely, but give a name if the first may
    change while the model stays."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key. The key itself never goes in this file."""
    api_key_header: Annotated[str, Field(pattern=_HEADER)] = "Authorization"
    """Header that carries the key: Authorization (as "Bearer KEY"), or another, such as Azure's api-key (the key
    alone)."""
    headers: dict[Annotated[str, Field(pattern=_HEADER)], str] = Field(default_factory=dict)
    """Further headers, name -> the environment variable that holds its value, e.g. {X-Gateway-Key: GATEWAY_KEY}."""
    temperature: float = 0.7
    """Sampling temperature (the model card's value; 0 is greedy)."""
    top_p: float = 0.95
    """Nucleus sampling."""
    max_tokens: int = 2048
    """Reply tokens at most."""
    max_model_len: int = 65536
    """The model's context; records are cut middle-out to fit it."""
    tokenizer: TokenizerPath = "qwen3"
    """Tokenizer for measuring prompts: qwen3, cl100k_base, o200k_base, llama3, or a path to tokenizer.json."""
    extra_body: dict[str, object] = Field(default_factory=dict)
    """Sent with every request, e.g. {chat_template_kwargs: {enable_thinking: false}}."""
    logprobs: bool = False
    """Ask for token log-probabilities and use expected scores."""
    samples: int = Field(default=1, ge=1)
    """Replies a record; scores are their mean."""
    slot_order: Literal["fixed", "permuted"] = "fixed"
    """Order of the slots in the prompt: fixed as in the card, or permuted by a hash of (record, replicate)."""
    max_concurrency: int = Field(default=256, ge=1)
    """Requests in flight at most; the limiter finds the right number below it."""
    timeout_s: float = Field(default=600, gt=0)
    """Seconds to wait for one reply."""
    max_retries: int = Field(default=6, ge=0)
    """Retries of one request before it counts as failed."""
    price_in: float = Field(default=0, ge=0)
    """Price of a million input tokens, in the currency of your choice."""
    price_out: float = Field(default=0, ge=0)
    """Price of a million output tokens."""


class TeacherSettings(Settings):
    """The frontier judge: an endpoint, or replies recorded earlier."""

    endpoint: EndpointSettings | None = None
    """A live teacher."""
    free_judgments: FilePath = ""
    """Recorded free-form judgments (JSONL: id, source, points) instead of a live Phase 1."""
    replies: FilePath = ""
    """Recorded replies instead of a live Phase 2: JSONL of id, source, replicate, reply; or OpenAI batch results."""
    judge: Annotated[str, AfterValidator(_known(plugins.JUDGES))] = "built-in"
    """Who scores on the rubric in Phase 2: `built-in` is the endpoint; installed packages add other names."""
    offline: bool = False
    """Send nothing: requests go out with --export as batch files, and replies come in with --import."""
    failure_budget: Fraction = 0.01
    """Share of records that may stay unscored before the exit status is non-zero."""
    max_cost: float | None = Field(default=None, ge=0)
    """Stop cleanly before spending more than this."""
    max_requests: int | None = Field(default=None, ge=0)
    """Stop cleanly before sending more requests than this."""

    @property
    def labels(self) -> bool:
        """Whether there is anybody to score on a rubric."""
        return bool(self.endpoint or self.replies or self.judge != "built-in")


class EmbeddingSettings(Settings):
    """Text -> unit vectors."""

    model: ModelPath = "minilm"
    """minilm (built in, offline), a sentence-transformers model by name or folder (extra embed), or the /v1 base URL of
    an embeddings endpoint."""
    windows: int = Field(default=3, ge=1)
    """Windows that are read of a long text, evenly spaced from head to tail; their vectors are averaged (ours)."""
    window_tokens: int = Field(default=64, ge=8, le=256)
    """Tokens a window at most (ours)."""
    endpoint_model: str = ""
    """Model name as the endpoint knows it; by default the only one that it lists."""
    api_key_env: str = ""
    """Name of the environment variable that holds the endpoint's key."""
    api_key_header: Annotated[str, Field(pattern=_HEADER)] = "Authorization"
    """Header that carries the key; see teacher.endpoint."""
    headers: dict[Annotated[str, Field(pattern=_HEADER)], str] = Field(default_factory=dict)
    """Further headers, name -> the environment variable that holds its value."""
    timeout_s: float = Field(default=60, gt=0)
    """Seconds to wait for one reply of the endpoint."""
    max_retries: int = Field(default=5, ge=0)
    """Retries of one request to the endpoint."""


class GroupSettings(Settings):
    """Clustering of sources into groups."""

    k: int | dict[FamilyName, int] | Literal["auto"] = "auto"
    """Groups a family: a number, one a family, or chosen by silhouette."""
    sample: int = Field(default=200, ge=1)
    """Records a source that its mean vector is taken over."""
    given: dict[str, list[str]] = Field(default_factory=dict)
    """Groups by hand, name -> sources, instead of clustering, e.g. {text_group_A: [pr_issue, deepwiki]}."""


class DiscoverSettings(Settings):
    """Free-form judging and clustering of judgment points into anchors."""

    sample: int = Field(default=500, ge=1)
    """Records a source that the teacher judges freely."""
    slots: int = Field(default=15, ge=1, le=99)
    """Anchors a group."""
    references: int = Field(default=12, ge=0, le=12)
    """How many of the largest slots get calibration references in the system prompt: 12 in the model card. With 0 the
    exemplars of the 12 largest stand in."""
    name_weight: Fraction = 0.85
    """Weight of the dimension's name against its reason in a point's embedding (ours)."""
    rubrics: dict[str, FilePath] = Field(default_factory=dict)
    """Group -> rubric file to use as it is, e.g. a released one; the group is then not discovered."""
    corpus: str = "training data for the mid-training of a code-oriented language model"
    """What the records are judged as; part of the prompt."""


class LabelSettings(Settings):
    """Teacher judgements on the fixed anchors."""

    sample: int = Field(default=2000, ge=1)
    """Records a source that the teacher labels."""
    replicates: Fraction = 0.1
    """Share of them judged a second time, for the teacher's own test-retest."""
    held_out: Fraction = 0.2
    """Share of labelled records kept out of training (by hash of the id)."""


class SftSettings(Settings):
    """How a causal LM is tuned into a student. All values are ours; the paper's are unpublished."""

    model: ModelPath = "Qwen/Qwen3.5-35B-A3B-Base"
    """Base model: a folder, or a name on the hub. Its weights must be safetensors."""
    where: Literal["here", "job"] = "here"
    """here: tune on this machine; job: only write the files of a Megatron job for a GPU machine."""
    max_length: int = Field(default=65536, ge=16)
    """Tokens of prompt and reply together."""
    max_reply: int = Field(default=2048, ge=8)
    """Reply tokens at most when the student judges; a prompt has what is left of max_length."""
    overflow: Literal["leave_out", "cut"] = "leave_out"
    """Records that do not fit: leave them out, or cut them middle-out as the judge does. Both are counted."""
    references: bool = True
    """Calibration references in the student's prompt. Without them (context distillation) prompts are shorter."""
    slot_order: Literal["fixed", "permuted"] = "permuted"
    """Order of the slots in the student's prompt: fixed, or permuted by a hash of (record, replicate)."""
    slot_subsets: Fraction = 0.25
    """Share of training examples that ask for a random subset of the slots. With 0 and a fixed order a student fails
    when it is asked for single slots."""
    epochs: float = Field(default=2, gt=0)
    """Passes over the training labels."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate; it decays to 0 along a cosine."""
    batch_size: int = Field(default=16, ge=1)
    """Examples a step."""
    micro_batch: int = Field(default=1, ge=1)
    """Examples in memory at once; must divide batch_size."""
    warmup: Fraction = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay."""
    lora_rank: int = Field(default=0, ge=0)
    """0 tunes all parameters; above it, LoRA adapters of this rank, merged into the weights at the end."""
    checkpoint_steps: int = Field(default=0, ge=0)
    """Steps between checkpoints from which an interrupted run goes on; 0 writes none."""
    chat_template: FilePath = ""
    """A Jinja file, for base models whose tokenizer has no chat template."""

    @model_validator(mode="after")
    def _room_for_a_prompt(self) -> "SftSettings":
        if self.max_reply >= self.max_length:
            raise ValueError(f"max_reply ({self.max_reply}) leaves no room for a prompt in max_length")
        return self


class CascadeSettings(Settings):
    """What the expensive student judges after the cheap one has scored everything. The values are ours."""

    share: Fraction = 0.1
    """The records nearest to the threshold, up to this share of each source's tokens."""
    errors: float | None = Field(default=None, ge=0)
    """Instead of `share`: records whose quality is within this many errors of the cheap student from the threshold."""
    audit: Fraction = 0.01
    """A random share of all records besides, on which both students are compared."""
    bundles: dict[str, BundlePath] = Field(default_factory=dict)
    """Group -> the sft bundle that distill.endpoint serves, e.g. of another run. Without one, what is served counts as
    a released scorer, which is asked with the run's rubric."""

    @model_validator(mode="after")
    def _one_reach(self) -> "CascadeSettings":
        if self.errors is not None and "share" in self.model_fields_set:
            raise ValueError("give share or errors, not both")
        return self


class DistillSettings(Settings):
    """The student of each group."""

    student: Literal["encoder", "sft", "endpoint", "bundle"] = "encoder"
    """encoder: trained here in seconds; sft: a causal LM is tuned; endpoint: a released scorer that is served; bundle:
    scorer bundles that are there already, see `bundles`."""
    bundles: dict[str, BundlePath] = Field(default_factory=dict)
    """Group -> the scorer bundle to use as it is, e.g. one that was pulled; needed by `bundle` students."""
    endpoint: EndpointSettings | None = None
    """Where the student is served: needed by `endpoint` students, and to score by a served `sft` student."""
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict)
    """Group -> where its student is served, where groups have endpoints of their own."""
    compare: list[BundlePath] = Field(default_factory=list)
    """Other scorer bundles, or folders of them, to compare this run's students with (`mira students`)."""
    sft: SftSettings = SftSettings()
    cascade: CascadeSettings = CascadeSettings()
    folds: int = Field(default=5, ge=2)
    """Folds of cross-validation."""
    tolerance: Fraction = 0.01
    """Spearman that an encoder student with cheaper features may cross-validate below the best one and be preferred."""

    def endpoint_of(self, group: str) -> EndpointSettings | None:
        """Return where a group's student is served."""
        return self.endpoints.get(group, self.endpoint)


class ScoreSettings(Settings):
    """Scoring of every record."""

    workers: int = Field(default=0, ge=0)
    """Processes; 0 is one a core."""
    engine: Annotated[str, AfterValidator(_known(plugins.ENGINES))] = "local"
    """Where shards run: local (processes here) or ray (Ray tasks; the run folder must be on shared storage)."""


class ReliabilitySettings(Settings):
    """When a (source, slot) cell is trusted. The thresholds are ours; the paper's are unpublished."""

    min_n: int = Field(default=30, ge=2)
    """Cells with fewer labels are pooled up to their group."""
    min_rho: float = Field(default=0.3, ge=-1, le=1)
    """Lower bound of the Spearman interval that a cell must reach."""
    min_skill: float = Field(default=0.0)
    """Skill over the constant predictor (1 - MAE/MAE_constant) that a cell must exceed."""
    min_spread: float = Field(default=0.25, ge=0)
    """A cell is collapsed when the teacher's scores have a smaller standard deviation (0-10 scale)."""
    max_tied: Fraction = 0.9
    """A cell is collapsed when one score holds at least this share of the teacher's labels."""
    min_pairs: int = Field(default=20, ge=3)
    """Doubly judged records that a source's own ceiling needs; with fewer, the group's pairs are used."""
    interval: float = Field(default=0.90, gt=0, lt=1)
    """Confidence of the bootstrap interval."""
    bootstrap: int = Field(default=1000, ge=100)
    """Bootstrap resamples (fewer, but at least 200, where a source has more than 5,000 labels)."""
    mask: FilePath = ""
    """A mask to use as it is where there are no labels, e.g. a released one: JSONL of source, slot, why."""


class BenchmarkSettings(Settings):
    """Texts of a benchmark that the corpus should not hold."""

    name: Annotated[str, Field(min_length=1)]
    """Short name, told with every record that shares text with it."""
    path: SourcePath | list[SourcePath]
    """Files or globs: JSONL (plain, .gz, .zst, .bz2, .xz), Parquet, or plain text (.txt, .md)."""
    fields: list[str] = Field(default_factory=list)
    """Fields that hold its text, in order; a dot goes into nested objects. Empty: every string of an object."""


class FlagSettings(Settings):
    """Records that selection should know of: duplicates and contamination. Sizes and thresholds are ours."""

    exact: bool = True
    """Find records of the same text, in all sources together (white space and Unicode form aside)."""
    near: bool = False
    """Find records of nearly the same text by MinHash (extra `[dedup]`)."""
    jaccard: Annotated[float, Field(ge=0.3, le=1)] = 0.8
    """Near duplicates share at least this much of their shingles, by MinHash's estimate."""
    shingle_words: int = Field(default=5, ge=1, le=50)
    """Words of a shingle."""
    permutations: int = Field(default=128, ge=16, le=1024)
    """Values of a MinHash; its estimate has a standard error of at most 0.5 / sqrt(permutations)."""
    benchmarks: list[BenchmarkSettings] = Field(default_factory=list, max_length=64)
    """Benchmarks whose text records are searched for, e.g. [{name: gsm8k, path: bench/gsm8k.jsonl}]."""
    ngram_words: int = Field(default=13, ge=2, le=100)
    """Consecutive words that a record and a benchmark must share; shorter benchmark texts are not looked for."""
    common_texts: int = Field(default=10, ge=0)
    """An n-gram that more texts of one benchmark than this share, and more than 1% of them, is a notice or an
    instruction, and is not looked for; of a small benchmark, one that more than half share. 0: look for all."""
    min_overlap: Fraction = 0.0
    """Share of a record's n-grams that must be in benchmarks for it to be flagged; 0: a single one is enough."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What selection does with duplicates and near duplicates: keep (only flagged), or drop all copies of a text but
    one. The copy that stands is one that may be kept (it is ranked, not contaminated, and fits into its source's
    `source_max`), then the best by the method's value, then the one of the smallest hash."""
    contaminated: Literal["keep", "drop"] = "keep"
    """What selection does with records that share text with a benchmark: keep (only flagged), or drop."""


class DsirSettings(Settings):
    """Importance resampling (DSIR). The defaults are the paper's; `mean`, 0 and false do not favour short records."""

    target: SourceSettings | Literal["top_judged"] = "top_judged"
    """What to resemble: a source of its own (name, path, ...), or the records that the teacher judged best."""
    target_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the labelled records, by overall score, that `top_judged` takes (ours)."""
    normalise: Literal["sum", "mean"] = "sum"
    """log w is a sum over a record's n-grams (the paper's; length dominates it), or their mean."""
    words: Literal["unicode", "nltk-3.10", "nltk-3.9"] = "unicode"
    """What a word is: as in NLTK 3.10, but each letter of a script without spaces (Chinese, Thai) is one (ours); or as
    in the authors' package over NLTK 3.10 and later, or over earlier ones, which cut Hindi at every vowel sign."""
    min_words: int = Field(default=100, ge=0)
    """Records of fewer word tokens are not ranked."""
    noise: bool = True
    """Add Gumbel(0, 1) noise to log w (resampling); false takes the top."""
    laplace: float = Field(default=0.0, ge=0)
    """Added to every bucket's count before fitting."""
    buckets: int = Field(default=10_000, ge=2)
    """Buckets that n-grams are hashed into."""
    fit_ngrams: int = Field(default=1_000_000_000, ge=1)
    """The corpus is fitted on about this many n-grams at most, of a hash sample of its records."""


def _refuse(settings: EndpointSettings, *names: str) -> None:
    """Refuse settings of an endpoint that would have no effect.

    Raises:
        ValueError: One is set.
    """
    fields = type(settings).model_fields
    given = [name for name in names if getattr(settings, name) != fields[name].default]
    if given:
        raise ValueError(f"{', '.join(given)}: without effect here; take it out")


class PplEndpoint(EndpointSettings):
    """A causal LM behind /v1/completions that tells how likely a prompt is. The values are ours."""

    form: Literal["prompt_logprobs", "echo"] = "prompt_logprobs"
    """How it is asked: prompt_logprobs (vLLM), or echo with logprobs (the OpenAI API's earlier form)."""
    max_tokens: int = 1
    """A token must be generated; it is not looked at."""
    max_model_len: int = 8192
    """The model's context; of longer records the beginning is measured."""

    @model_validator(mode="after")
    def _nothing_is_sampled(self) -> "PplEndpoint":
        _refuse(self, "max_tokens", "temperature", "top_p", "samples", "logprobs", "slot_order")
        return self


class PplSettings(Settings):
    """Perplexity filter, in bits per byte under a language model. The paper's choices are unpublished."""

    model: ModelPath = "ngram"
    """ngram: byte n-grams trained here; or a path to a KenLM model (.arpa, .bin, .klm; pip install kenlm-ex), or
    to the folder of a causal LM (pip install 'mira-select[train]')."""
    endpoint: PplEndpoint | None = None
    """Instead of `model`: a served causal LM, e.g. SmolLM2. Bits per byte are kept in <run>/ppl."""
    reference: SourceSettings | Literal["sample", "top_judged"] = "sample"
    """What `ngram` is trained on: a sample of the corpus, what the teacher judged best, or a source of its own."""
    sample: int = Field(default=500, ge=1)
    """Records a source in `sample`."""
    target_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the labelled records, by overall score, that `top_judged` takes (ours)."""
    order: int = Field(default=6, ge=1, le=8)
    """Longest n-gram, in bytes."""
    slice: Literal["low", "middle", "high"] = "low"
    """Which bits per byte to keep: the lowest, those nearest to their pool's median, or the highest."""

    @model_validator(mode="after")
    def _one_model(self) -> "PplSettings":
        if self.endpoint is not None and self.model != "ngram":
            raise ValueError("model and endpoint are both given: take one out")
        return self


class DataManEndpoint(EndpointSettings):
    """A DataMan model: RuPeng/DataMan-1.5B-EN, -1.5B-ZH, -MoE-A2.7B-EN or -MoE-A2.7B-ZH on the hub, served as it is."""

    temperature: float = 0.0
    """Sampling temperature (the paper's value)."""
    top_p: float = 1.0
    """Nucleus sampling."""
    max_tokens: int = 40
    """Reply tokens at most; a reply is 29."""
    max_model_len: int = 4096
    """The model's context. Records are cut to 1,894 tokens (the paper's), fewer where that does not fit."""

    @model_validator(mode="after")
    def _one_reply(self) -> "DataManEndpoint":
        _refuse(self, "samples", "logprobs", "slot_order")
        return self


class DataManSettings(Settings):
    """DataMan's overall score."""

    scores: FilePath = ""
    """Folder of sidecars, <source>/<shard>.parquet (row, id, overall, domain_tag); by default <run>/dataman."""
    endpoint: DataManEndpoint | None = None
    """A served DataMan model: it judges every record, once, into <run>/dataman. Not asked where `scores` is given."""
    min_overall: float = Field(default=1.0, ge=1, le=5)
    """Records of a lower overall score are not ranked; the paper keeps one score, 5."""
    by_domain: bool = True
    """Split each pool's budget over its domains in proportion to their tokens, too."""


class SelectSettings(Settings):
    """Retention under a token budget."""

    method: Annotated[str, AfterValidator(_known(plugins.METHODS))] = "mira"
    """How records are ranked: raw, random, ppl, dsir, dataman, mira, or a method that an installed package adds."""
    scores: Literal["student", "cascade"] = "student"
    """What `mira` ranks by: the student's scores, or those that `mira cascade` made of them."""
    scope: Literal["global", "group", "source"] = "group"
    """Where records compete: all together, within their group, or within their source."""
    budget: TokensField = Tokens.parse("50%")
    """Tokens to keep: a share ("50%") or a count ("25B", "300M", 1000000)."""
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Share of a record's unmasked slots trimmed at each end before the mean (ours)."""
    min_slots: int = Field(default=3, ge=1)
    """Unmasked slots that must be scored for a record to have a quality (ours)."""
    masked_source: Literal["random", "drop"] = "random"
    """A source whose every slot is masked: keep its share of the budget at random, or nothing (ours)."""
    source_min: dict[str, TokensField] = Field(default_factory=dict)
    """Source -> least tokens to keep, as a share of the source or a count; met to within one record."""
    source_max: dict[str, TokensField] = Field(default_factory=dict)
    """Source -> most tokens to keep, as a share of the source or a count; never passed."""
    temperature: float = Field(default=0.0, ge=0)
    """0 keeps the top; above it, Gumbel noise of this size is added to z-scored quality (sampling, seeded)."""
    provenance_field: str = "mira"
    """Field added to every kept record."""
    write_selected: bool = True
    """Write kept records in the input's format."""
    dsir: DsirSettings = DsirSettings()
    ppl: PplSettings = PplSettings()
    dataman: DataManSettings = DataManSettings()


class ProxySettings(Settings):
    """A tiny LM trained on each method's selection (`pip install 'mira-select[train]'`). All values are ours."""

    gold: list[SourceSettings] = Field(default_factory=list)
    """Further gold sets, one a source: text that is not to be trained on, to measure every model on."""
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of a text, or of a gold text, from which a text that has it in common with gold is in no arm."""


class EvaluateSettings(Settings):
    """What a selection is worth."""

    planted: int = Field(default=20, ge=0)
    """Records a source that spoiled copies are made of, one a fault, to be scored by the student; 0 for none."""
    methods: list[Literal["random", "dsir", "ppl", "dataman"]] = ["random", "dsir", "ppl"]
    """Selection methods that value the spoiled copies too. dsir and ppl are fitted first where that has not been done,
    which reads the corpus; dataman, and ppl with an endpoint, send originals and copies to the model that judges the
    corpus. One that cannot run here is told and left out."""
    interval: float = Field(default=0.95, gt=0, lt=1)
    """Confidence of the intervals."""
    check_field: str = ""
    """Field that says what was done to a record, e.g. meta.perturbed; no judge and no student reads it. `mira evaluate`
    tells how well quality tells such records from clean ones: those with "none", "clean", "", false or 0 there."""
    proxy: ProxySettings = ProxySettings()


class Config(Settings):
    """All of mira.yaml."""

    run: RunPath = Path("run")
    """The run folder."""
    seed: int = 0
    """Seed of every sample, split and clustering."""
    tokenizer: TokenizerPath = "qwen3"
    """Tokenizer that budgets are counted with: qwen3, cl100k_base, o200k_base, llama3, or a path to tokenizer.json."""
    shard_bytes: int = Field(default=256 * 2**20, ge=1024)
    """Plain JSONL files are sliced into shards of this many bytes; compressed and Parquet files are one shard each."""
    max_record_bytes: int = Field(default=64 * 2**20, ge=1024)
    """A longer line is rejected."""
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
    select: SelectSettings = SelectSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    def source(self, name: str) -> SourceSettings:
        """Return the settings of source `name`.

        Raises:
            KeyError: There is no such source.
        """
        return next(s for s in self.sources if s.name == name)
