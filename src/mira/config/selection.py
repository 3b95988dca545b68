"""Flags, selection methods and retention."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mira import plugins
from mira.config.aliases import renamed
from mira.config.base import Settings, Share, known_names
from mira.config.endpoints import DataManEndpoint, PplEndpoint
from mira.config.judging import SourceSettings
from mira.config.paths import FilePath, ModelPath, SourcePath
from mira.config.tokens import BudgetField, Tokens, TokensField

__all__ = [
    "BenchmarkSettings",
    "ColumnSettings",
    "DataManSettings",
    "DsirSettings",
    "FlagSettings",
    "GateSettings",
    "LengthSettings",
    "PplSettings",
    "SelectSettings",
]


class BenchmarkSettings(Settings):
    """A benchmark whose texts the corpus should not contain."""

    name: Annotated[str, Field(min_length=1)]
    """Short name, reported for each record that overlaps this benchmark."""
    path: SourcePath | list[SourcePath]
    """Files or globs: JSONL (plain, .gz, .zst, .bz2, .xz), Parquet, or plain text (.txt, .md)."""
    fields: list[str] = Field(default_factory=list)
    """Fields with its text, in order; a dot goes into nested objects. Empty: every string of an object."""


class FlagSettings(Settings):
    """Duplicates and contamination. Sizes and thresholds are ours."""

    exact: bool = True
    """Find records with the same text across all sources, ignoring white space and Unicode form."""
    near: bool = False
    """Find records with nearly the same text, by MinHash (extra `dedup`)."""
    jaccard: Annotated[Share, Field(ge=0.3)] = 0.8
    """Near duplicates share at least this much of their shingles, as MinHash estimates."""
    shingle_words: int = Field(default=5, ge=1, le=50)
    """Words per shingle."""
    permutations: int = Field(default=128, ge=16, le=1024)
    """Values per MinHash. The standard error of an estimate is at most 0.5 / sqrt(permutations)."""
    benchmarks: list[BenchmarkSettings] = Field(default_factory=list, max_length=64)
    """Benchmarks to search the records for, e.g. [{name: gsm8k, path: bench/gsm8k.jsonl}]."""
    ngram_words: int = Field(default=13, ge=2, le=100)
    """Consecutive words that a record and a benchmark must share. Shorter benchmark texts are ignored."""
    common_texts: int = Field(default=10, ge=0)
    """An n-gram that more texts of one benchmark than this share, and more than 1% of them, is a notice or an
    instruction, and is not looked for; of a small benchmark, one that more than half share. 0: look for all."""
    min_overlap: Share = 0.0
    """Flag a record if at least this share of its n-grams is in benchmarks. 0: one n-gram is enough."""
    duplicates: Literal["keep", "drop"] = "keep"
    """What selection does with duplicates and near duplicates: keep (only flagged), or drop all copies of a text but
    one. The copy that stands is one that may be kept (it is ranked, not contaminated, and fits into its source's
    `source_max`), then the best by the method's value, then the one of the smallest hash."""
    contaminated: Literal["keep", "drop"] = "keep"
    """What selection does with records that share text with a benchmark: keep them (flagged), or drop them."""


class ColumnSettings(Settings):
    """Ranking by a score that another program gave the records."""

    score: str = ""
    """Name of the score in `scores`."""


class DsirSettings(Settings):
    """Importance resampling (DSIR). The defaults are the paper's; `mean`, 0 and false do not favour short records."""

    target: SourceSettings | Literal["top_judged"] = "top_judged"
    """The target: a source of its own (name, path, ...), or the records that the teacher judged best."""
    target_share: Annotated[Share, Field(gt=0)] = 0.25
    """Share of the labelled records that `top_judged` takes, by overall score (ours)."""
    normalise: Literal["sum", "mean"] = "sum"
    """log w is a sum over a record's n-grams (the paper's; length dominates it), or their mean."""
    words: Literal["unicode", "nltk-3.10", "nltk-3.9"] = "unicode"
    """What a word is: as in NLTK 3.10, but each letter of a script without spaces (Chinese, Thai) is one (ours); or as
    in the authors' package over NLTK 3.10 and later, or over earlier ones, which cut Hindi at every vowel sign."""
    min_words: int = Field(default=100, ge=0)
    """Records with fewer words are not ranked."""
    noise: bool = True
    """Add Gumbel(0, 1) noise to log w (resampling). false takes the top."""
    laplace: float = Field(default=0.0, ge=0)
    """Pseudo-count added to every bucket before fitting."""
    buckets: int = Field(default=10_000, ge=2)
    """Hash buckets for n-grams."""
    fit_ngrams: int = Field(default=1_000_000_000, ge=1)
    """Fit the corpus on at most about this many n-grams, from a hash sample of its records."""


class PplSettings(Settings):
    """Perplexity filter, in bits per byte under a language model. The paper's choices are unpublished."""

    model: ModelPath = "ngram"
    """ngram (byte n-grams trained here), a KenLM model's path (.arpa, .bin, .klm; pip install kenlm-ex), or the
    folder of a causal LM (pip install 'mira-select[train]')."""
    endpoint: PplEndpoint | None = None
    """A served causal LM, instead of `model`. Its bits per byte are kept in <run>/ppl."""
    reference: SourceSettings | Literal["sample", "top_judged"] = "sample"
    """Training text of `ngram`: a sample of the corpus, the records that the teacher judged best, or a source."""
    sample: int = Field(default=500, ge=1)
    """Records per source in `sample`."""
    target_share: Annotated[Share, Field(gt=0)] = 0.25
    """Share of the labelled records that `top_judged` takes, by overall score (ours)."""
    order: int = Field(default=6, ge=1, le=8)
    """Longest n-gram, in bytes."""
    keep: Literal["low", "middle", "high"] = renamed("keep", "slice", default="low")
    """Bits per byte to keep: the lowest, those nearest to the pool's median, or the highest."""

    @model_validator(mode="after")
    def _one_model(self) -> "PplSettings":
        if self.endpoint is not None and self.model != "ngram":
            raise ValueError("model and endpoint are both given: take one out")
        return self


class DataManSettings(Settings):
    """DataMan's overall score."""

    scores: FilePath = ""
    """Folder of score files <source>/<shard>.parquet (row, id, overall, domain_tag). Default: <run>/dataman."""
    endpoint: DataManEndpoint | None = None
    """A served DataMan model. It rates every record once, into <run>/dataman. Not used if `scores` is set."""
    min_overall: float = Field(default=1.0, ge=1, le=5)
    """Records with a lower overall score are not ranked. The paper keeps only score 5."""
    by_domain: bool = True
    """Also split each pool's budget over its domains, in proportion to their tokens."""


class LengthSettings(Settings):
    """What length may decide within a source. Long records often have more of everything that a rubric asks for."""

    control: Literal["none", "residual", "strata"] = "none"
    """none: rank by the method's value (the paper's). residual: by the value less what the logarithm of a record's
    tokens predicts within its source. strata: each source keeps as many tokens as with none, and each stratum of its
    lengths the same share of them. The last two are ours. residual lowers the agreement with a teacher who prefers
    long records, see the results. raw and random have no quality that length could explain."""
    strata: int = Field(default=5, ge=2, le=100)
    """Strata of lengths per source for `strata`, with about equally many records and at least 20 (ours)."""


def _measured(value: str) -> str:
    name = value.partition(".")[0]
    if name in _NO_MEASURE:
        raise ValueError(f"{value} says nothing of a record. A gate needs a value such as ppl.")
    if not plugins.is_known(plugins.METHODS, name):
        known = [repr(method) for method in plugins.names(plugins.METHODS) if method not in (*_NO_MEASURE, "column")]
        raise ValueError(f"input should be {', '.join(known)}, or 'column.NAME' for a score in `scores`")
    return value


_NO_MEASURE = ("raw", "random")


class GateSettings(Settings):
    """A floor beside quality: what does not reach it is dropped, however high its quality (ours)."""

    value: Annotated[str, AfterValidator(_measured)]
    """What is measured: the values of a method, e.g. ppl, or column.NAME for a score in `scores`. Larger is better: ppl
    is minus the bits per byte, unless `select.ppl.keep` is high. The method's section says how it measures."""
    drop: Annotated[Share, Field(gt=0, lt=1)] | None = None
    """Drop the records of the lowest values within each source, up to this share of its tokens."""
    min: float | None = None
    """Drop the records of a lower value than this. Give either `drop` or `min`."""
    sources: list[str] = Field(default_factory=list)
    """Sources that have this gate. Empty: all."""
    missing: Literal["drop", "keep"] = "drop"
    """What becomes of records without the value."""

    @model_validator(mode="after")
    def _one_floor(self) -> "GateSettings":
        if (self.drop is None) == (self.min is None):
            raise ValueError("give either drop (a share of each source's tokens) or min (a value)")
        return self


class SelectSettings(Settings):
    """Retention under a token budget."""

    method: Annotated[str, AfterValidator(known_names(plugins.METHODS))] = "mira"
    """How records are ranked: raw, random, ppl, dsir, dataman, column, mira, or a method that an installed package
    adds."""
    scores: Literal["student", "cascade"] = "student"
    """Scores that `mira` ranks by: the student's, or those of `mira cascade`."""
    scope: Literal["global", "group", "source"] = "group"
    """Where records compete: all together, within their group, or within their source."""
    compare_by: Literal["own", "shared", "centred"] = "own"
    """Slots that `mira` compares sources by if they share a threshold: each source's own trusted slots (own, the
    paper's), the slots that all of them trust (shared), or their own, each centred and scaled over the records of all
    of them (centred); the last two are ours."""
    budget: BudgetField = Tokens.parse("50%")
    """Tokens to keep: a share ("50%") or a count ("25B", "300M", 1e9, 1000000). 0 is refused."""
    fit: Literal["prefix", "skip"] = "prefix"
    """At a record that does not fit into the rest of the budget: end there (prefix), or go on without it (skip)."""
    trim: Annotated[Share, Field(lt=0.5)] = 0.1
    """Share of a record's unmasked slots to trim at each end before the mean (ours)."""
    min_slots: int = Field(default=3, ge=1)
    """Scored, unmasked slots that a record needs to have a quality (ours)."""
    masked_source: Literal["random", "drop"] = "random"
    """If every slot of a source is masked: keep its share of the budget at random, or drop the source (ours)."""
    source_min: dict[str, TokensField] = Field(default_factory=dict)
    """Source -> minimum tokens to keep, as a share of the source or a count. Met to within one record."""
    source_max: dict[str, TokensField] = Field(default_factory=dict)
    """Source -> maximum tokens to keep, as a share of the source or a count. Never exceeded."""
    gates: list[GateSettings] = Field(default_factory=list)
    """Floors beside quality, e.g. [{value: ppl, drop: 10%}]: records below one are dropped with a reason of their own,
    and the budget is filled from the others. Quality does not see everything, see `mira evaluate`."""
    temperature: float = Field(default=0.0, ge=0)
    """0 keeps the top. Above 0, Gumbel noise of this size is added to z-scored quality (seeded sampling)."""
    length: LengthSettings = LengthSettings()
    provenance_field: str = "mira"
    """Field added to every kept record."""
    write_selected: bool = True
    """Write kept records in the input's format."""
    column: ColumnSettings = ColumnSettings()
    dsir: DsirSettings = DsirSettings()
    ppl: PplSettings = PplSettings()
    dataman: DataManSettings = DataManSettings()

    @field_validator("gates")
    @classmethod
    def _one_gate_per_value(cls, gates: list[GateSettings]) -> list[GateSettings]:
        values = [gate.value for gate in gates]
        if twice := next((value for value in values if values.count(value) > 1), ""):
            raise ValueError(f"there are two gates on {twice}: put their sources into one, or take one out")
        return gates

    @model_validator(mode="after")
    def _length_can_be_controlled(self) -> "SelectSettings":
        control = self.length.control
        if control != "none" and self.method in ("raw", "random"):
            raise ValueError(
                f"length.control: {control}: method {self.method} has no quality that length could explain"
            )
        if control == "strata" and self.method == "dataman" and self.dataman.by_domain:
            raise ValueError(
                "length.control: strata: dataman splits its budget by domain already: set dataman.by_domain: false, or "
                "length.control: residual"
            )
        return self
