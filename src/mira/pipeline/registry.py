"""What each stage is: the settings and files that it reads, the stages that it builds on, and what it writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mira import corpus
from mira.config.settings import Config, FlagSettings, SourceSettings
from mira.corpus import build_index
from mira.discovery.stage import discover
from mira.distillation.bundle import SUMS
from mira.distillation.stage import distill
from mira.errors import ConfigError
from mira.flags import flag
from mira.flags.benchmarks import benchmark_files
from mira.grouping.stage import group
from mira.labelling.stage import label
from mira.progress import Log
from mira.reliability.stage import reliability
from mira.report import report
from mira.run_folder.files import hash_file, hash_json, hash_path
from mira.run_folder.paths import RunFolder
from mira.scoring import score
from mira.selection.stage import select
from mira.tokens import BUILT_IN

__all__ = ["EXTRAS", "STAGES", "Stage", "extra_files", "needed_stages"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: a function from files to files.

    Attributes:
        name: Its verb.
        version: Raised whenever its code would give another output for the same input.
        function: What runs; returns a JSON-able summary.
        needs: Stages whose output it reads; those of a selection depend on its method.
        settings: The part of the configuration that it depends on.
        files: Files outside the run folder that it reads: name -> hash.
        outputs: Files and folders that it writes.
    """

    name: str
    version: int
    function: Callable[[Config, RunFolder, Log], dict[str, Any]]
    needs: Callable[[Config], tuple[str, ...]]
    settings: Callable[[Config], dict[str, Any]]
    outputs: Callable[[RunFolder], list[Path]]
    files: Callable[[Config, RunFolder], dict[str, str]] = lambda _config, _run: {}


# Settings that name files: what counts is the files' content, so that a project can be moved.
_PATHS = frozenset(
    {"teacher.free_judgments", "teacher.replies", "discover.rubrics", "distill.bundles", "reliability.mask"}
)
# Settings that no stage reads, only the verbs beside them.
_BESIDE = frozenset({"distill.compare", "distill.cascade"})


def _sections(*names: str) -> Callable[[Config], dict[str, Any]]:
    """Return what gives the settings of sections ("select") and single fields ("teacher.endpoint"), by dotted name."""

    def settings(config: Config) -> dict[str, Any]:
        # Defaults are left out: a setting that a newer mira adds does not make old runs stale.
        dumped = config.model_dump(mode="json", exclude_defaults=True)
        found = {"seed": config.seed}
        for name in names:
            section, _, field = name.partition(".")
            given = dumped.get(section, {})
            fields = {key: value for key, value in given.items() if not field or key == field}
            found |= {f"{section}.{key}": value for key, value in fields.items()}
        beside = _PATHS | _BESIDE | ({"embedding.model"} if _model_folder(config) else set())
        return {name: value for name, value in found.items() if name not in beside}

    return settings


def _distill_settings(config: Config) -> dict[str, Any]:
    found = _sections("distill", "embedding", "discover.corpus")(config)
    if config.distill.student == "encoder":  # where the cascade's student is served changes nothing for the encoder
        found = {k: v for k, v in found.items() if k not in ("distill.endpoint", "distill.endpoints", "distill.sft")}
    if tuning := found.get("distill.sft"):
        by_content = {"chat_template"} | ({"model"} if Path(config.distill.sft.model).is_absolute() else set())
        found["distill.sft"] = {key: value for key, value in tuning.items() if key not in by_content}
    return found


def _index_settings(config: Config) -> dict[str, Any]:
    sources = [s.model_dump(mode="json", exclude={"language", "path"}) for s in config.sources]
    named = config.tokenizer if config.tokenizer in BUILT_IN else ""
    return {"sources": sources, "tokenizer": named, "max_record_bytes": config.max_record_bytes}


def _score_settings(config: Config) -> dict[str, Any]:
    """Return what a served student's answers depend on besides its bundle, which says all of an encoder."""
    served = ("distill.endpoint", "distill.endpoints", "discover.corpus") if config.distill.student != "encoder" else ()
    return _sections(*served)(config)


def _model_folder(config: Config) -> str:
    """Return the folder of the embedder's model; "" where it is built in, served or on a hub."""
    return config.embedding.model if Path(config.embedding.model).is_absolute() else ""


def _embedder(config: Config, _run: RunFolder) -> dict[str, str]:
    return _hashes({"embedding.model": _model_folder(config)})


def _free_judgments(config: Config, _run: RunFolder) -> dict[str, str]:
    rubrics = {f"discover.rubrics.{group}": path for group, path in config.discover.rubrics.items()}
    return _hashes({"teacher.free_judgments": config.teacher.free_judgments, **rubrics})


def _replies(config: Config, _run: RunFolder) -> dict[str, str]:
    return _hashes({"teacher.replies": config.teacher.replies})


def _bundles(config: Config, _run: RunFolder) -> dict[str, str]:
    if config.distill.student != "bundle":
        return {}
    return _hashes({f"distill.bundles.{group}": f"{folder}/{SUMS}" for group, folder in config.distill.bundles.items()})


def _base_model(config: Config, _run: RunFolder) -> dict[str, str]:
    """Hash what a student is tuned from: of weights, whose files are large, only names and sizes."""
    sft = config.distill.sft
    if config.distill.student != "sft":
        return {}
    found = _hashes({"distill.sft.chat_template": sft.chat_template})
    if (folder := Path(sft.model)).is_absolute():
        weighed = [
            [str(file.relative_to(folder)), file.stat().st_size if file.suffix == ".safetensors" else hash_file(file)]
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]
        found["distill.sft.model"] = hash_json(weighed)
    return found


def _mask(config: Config, _run: RunFolder) -> dict[str, str]:
    return _hashes({"reliability.mask": config.reliability.mask})


def _hashes(given: dict[str, str]) -> dict[str, str]:
    found = {}
    for setting, path in given.items():
        if not path:
            continue
        try:
            found[setting] = hash_path(Path(path))
        except OSError as error:
            raise ConfigError(f"{setting}: {path}: {error.strerror}", "Correct the path in the settings.") from None
    return found


def _index_files(config: Config, _run: RunFolder) -> dict[str, str]:
    given = {} if config.tokenizer in BUILT_IN else {"tokenizer": corpus.tokenizer(config.tokenizer).identity}
    return given | {
        f"source {source}": hash_json([[s.name, s.fingerprint] for s in shards])
        for source, shards in corpus.shards(config).items()
    }


def _needs(*names: str) -> Callable[[Config], tuple[str, ...]]:
    return lambda _config: names


def _select_needs(config: Config) -> tuple[str, ...]:
    settings = config.select
    flags = ("flag",) if "drop" in (config.flags.duplicates, config.flags.contaminated) else ()
    if settings.method == "mira":
        return ("index", "group", "score", "reliability", *flags)
    reference = None if settings.ppl.endpoint else settings.ppl.reference
    judged = {"dsir": settings.dsir.target, "ppl": reference}.get(settings.method) == "top_judged"
    by_group = ("group",) if settings.scope == "group" else ()
    return ("index", *by_group, *(("group", "discover", "label") if judged else ()), *flags)


def _report_needs(config: Config) -> tuple[str, ...]:
    return (*dict.fromkeys([*_select_needs(config), "select"]),)


def _benchmarks(config: Config, run: RunFolder) -> dict[str, str]:
    return {
        f"flags.benchmarks.{benchmark.name}": hash_json(
            [f.fingerprint for f in benchmark_files(config, run, benchmark)]
        )
        for benchmark in config.flags.benchmarks
    }


def _method_files(config: Config, run: RunFolder) -> dict[str, str]:
    """Hash what a selection method reads besides the stages' output."""
    settings = config.select
    given = settings.method == "ppl" and settings.ppl.model != "ngram"
    found = _hashes({"select.ppl.model": settings.ppl.model if given else ""})
    for name, target in (("dsir.target", settings.dsir.target), ("ppl.reference", settings.ppl.reference)):
        if settings.method == name.partition(".")[0] and isinstance(target, SourceSettings):
            shards = corpus.shards(config.model_copy(update={"sources": [target]}))[target.name]
            found[f"select.{name}"] = hash_json([[s.name, s.fingerprint] for s in shards])
    if settings.method == "mira" and settings.scores == "cascade":
        paths = sorted((run.path / "cascade").glob("*/*.parquet"))
        found["cascade"] = hash_json([[str(p.relative_to(run.path)), hash_file(p)] for p in paths])
    # What an endpoint has said is of the settings and the index; its sidecars are the stage's own.
    if settings.method == "dataman" and (settings.dataman.scores or not settings.dataman.endpoint):
        folder = Path(settings.dataman.scores or config.run / "dataman")
        found["select.dataman.scores"] = hash_json(
            [[p.relative_to(folder).as_posix(), hash_file(p)] for p in sorted(folder.rglob("*.parquet"))]
        )
    return found


# What is made of a finished run besides its stages -> the stage that makes it stale.
EXTRAS = {
    "compare.json": "select",
    "evaluation.json": "select",
    "proxy.json": "select",
    "cascade.json": "select",
    "students.json": "reliability",
}


def extra_files(_config: Config, run: RunFolder) -> dict[str, str]:
    """Return name -> hash of the extras that are there."""
    return {name: hash_file(run.path / name) for name in EXTRAS if (run.path / name).is_file()}


STAGES: tuple[Stage, ...] = (
    Stage("index", 1, build_index, _needs(), _index_settings, lambda run: [run.path / "index"], _index_files),
    Stage("group", 1, group, _needs("index"), _sections("group", "embedding"), lambda run: [run.groups], _embedder),
    Stage(
        "discover",
        1,
        discover,
        _needs("index", "group"),
        _sections("discover", "embedding", "teacher.endpoint"),
        lambda run: [run.path / "discovery", run.path / "rubrics"],
        lambda config, run: _free_judgments(config, run) | _embedder(config, run),
    ),
    Stage(
        "label",
        1,
        label,
        _needs("index", "group", "discover"),
        _sections("label", "teacher.endpoint", "discover.corpus"),
        lambda run: [run.path / "labels"],
        _replies,
    ),
    Stage(
        "distill",
        2,
        distill,
        _needs("index", "group", "discover", "label"),
        _distill_settings,
        lambda run: [run.path / "students"],
        lambda config, run: _bundles(config, run) | _base_model(config, run) | _embedder(config, run),
    ),
    Stage("score", 1, score, _needs("index", "group", "distill"), _score_settings, lambda run: [run.path / "scores"]),
    Stage(
        "reliability",
        1,
        reliability,
        _needs("group", "discover", "label", "distill"),
        _sections("reliability"),
        lambda run: [run.reliability],
        _mask,
    ),
    Stage(
        "flag",
        1,
        flag,
        _needs("index"),
        _sections("flags"),
        lambda run: [run.path / "flags"],
        _benchmarks,
    ),
    Stage(
        "select",
        1,
        select,
        _select_needs,
        _sections("select", "flags.duplicates", "flags.contaminated"),
        lambda run: [run.path / "selection", run.path / "selected", run.thresholds],
        _method_files,
    ),
    Stage("report", 2, report, _report_needs, lambda _config: {}, lambda run: [run.report], extra_files),
)


def needed_stages(config: Config) -> set[str]:
    """Return the stages that a report on the configured selection needs: random selection needs no teacher."""
    wanted = {"report"} | ({"flag"} if config.flags != FlagSettings() else set())
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted.update(stage.needs(config))
    return wanted
