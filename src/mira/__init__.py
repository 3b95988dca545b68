"""mira: choose the training data of language models' mid-training by quality, source by source.

Every command is a function of its name, and every stage an argument of `mira.run`::

    import mira

    run = mira.run("mira.yaml")                  # every stage that is not up to date, as `mira run` does
    run = mira.run("mira.yaml", "select")        # one stage
    mira.compare("mira.yaml", ["mira", "dsir"])  # also evaluate, explain, students, plan, validate, ...

    run = mira.open("run")                       # look at a run
    run.kept                                     # a pyarrow.Table
    run.relation("scores").limit(5)              # a DuckDB relation: nothing is loaded whole
    run.sql("SELECT source, avg(quality) FROM selection GROUP BY source")
    run.explain("record-17")
"""

import importlib
from typing import TYPE_CHECKING, Any

from mira._version import __version__
from mira.errors import (
    BudgetError,
    ConfigError,
    ConservationError,
    InputError,
    JudgeError,
    MiraError,
    RunError,
)

if TYPE_CHECKING:
    from mira.api import (
        Plan,
        adopt,
        cascade,
        compare,
        demo,
        evaluate,
        explain,
        freeze,
        init,
        plan,
        proxy,
        pull,
        push,
        run,
        students,
        validate,
    )
    from mira.auditing.verbs import audit, diff
    from mira.cluster.jobs import k8s, slurm
    from mira.cluster.verbs import work
    from mira.cluster.work import Worked
    from mira.config.loading import load_config
    from mira.config.settings import Config
    from mira.corpus.families.family import Family, Fields, PartFeatures
    from mira.corpus.record import Part, Record
    from mira.embedding.embedder import Embedder
    from mira.engine.engine import Engine
    from mira.evaluation.audit.bare import BareFiles
    from mira.evaluation.audit.results import AuditResult
    from mira.evaluation.diff.results import DiffResult
    from mira.evaluation.pairs.results import PairsPlan, PairsResult
    from mira.evaluation.proxy.results import ProxyResult
    from mira.evaluation.results import ComparisonResult, EvaluationResult
    from mira.family import FamilyName
    from mira.judging.endpoint import EndpointJudge
    from mira.judging.grammar.reply import parse_reply
    from mira.judging.judge import Judge, JudgeTask
    from mira.pipeline.cascade import CascadedSource
    from mira.pipeline.freeze import Frozen
    from mira.pipeline.plan import PlannedStage
    from mira.pipeline.score_files import score_bundle, score_endpoint
    from mira.progress import Log, Quiet, Terminal
    from mira.reliability.students.results import StudentsResult
    from mira.reviewing.results import ReviewResult
    from mira.rubric.judgement import Judgement
    from mira.rubric.rubric import Rubric
    from mira.run_folder.paths import RunFolder
    from mira.run_view import Run
    from mira.run_view import open_run as open
    from mira.selection.explain.results import Explanation, RejectedLine, TextMatches
    from mira.selection.methods.method import Method
    from mira.selection.values import Ranked, SelectionInputs, SelectionMethod
    from mira.unscored import Unscored
    from mira.viewer.review.command import review
    from mira.viewer.serve import view

_HOMES = {
    "CascadedSource": "mira.pipeline.cascade",
    "ComparisonResult": "mira.evaluation.results",
    "Config": "mira.config.settings",
    "Embedder": "mira.embedding.embedder",
    "EndpointJudge": "mira.judging.endpoint",
    "Engine": "mira.engine.engine",
    "Family": "mira.corpus.families.family",
    "EvaluationResult": "mira.evaluation.results",
    "Explanation": "mira.selection.explain.results",
    "FamilyName": "mira.family",
    "Frozen": "mira.pipeline.freeze",
    "Fields": "mira.corpus.families.family",
    "Judge": "mira.judging.judge",
    "JudgeTask": "mira.judging.judge",
    "Judgement": "mira.rubric.judgement",
    "Log": "mira.progress",
    "Method": "mira.selection.methods.method",
    "PairsPlan": "mira.evaluation.pairs.results",
    "PairsResult": "mira.evaluation.pairs.results",
    "Part": "mira.corpus.record",
    "PartFeatures": "mira.corpus.families.family",
    "Plan": "mira.api",
    "PlannedStage": "mira.pipeline.plan",
    "ProxyResult": "mira.evaluation.proxy.results",
    "Quiet": "mira.progress",
    "Ranked": "mira.selection.values",
    "Record": "mira.corpus.record",
    "RejectedLine": "mira.selection.explain.results",
    "ReviewResult": "mira.reviewing.results",
    "Rubric": "mira.rubric.rubric",
    "Run": "mira.run_view",
    "RunFolder": "mira.run_folder.paths",
    "SelectionInputs": "mira.selection.values",
    "SelectionMethod": "mira.selection.values",
    "StudentsResult": "mira.reliability.students.results",
    "Terminal": "mira.progress",
    "TextMatches": "mira.selection.explain.results",
    "Unscored": "mira.unscored",
    "adopt": "mira.api",
    "audit": "mira.auditing.verbs",
    "AuditResult": "mira.evaluation.audit.results",
    "BareFiles": "mira.evaluation.audit.bare",
    "cascade": "mira.api",
    "compare": "mira.api",
    "demo": "mira.api",
    "diff": "mira.auditing.verbs",
    "DiffResult": "mira.evaluation.diff.results",
    "evaluate": "mira.api",
    "explain": "mira.api",
    "freeze": "mira.api",
    "init": "mira.api",
    "load_config": "mira.config.loading",
    "open": "mira.run_view:open_run",
    "parse_reply": "mira.judging.grammar.reply",
    "plan": "mira.api",
    "proxy": "mira.api",
    "pull": "mira.api",
    "push": "mira.api",
    "review": "mira.viewer.review.command",
    "run": "mira.api",
    "score_bundle": "mira.pipeline.score_files",
    "score_endpoint": "mira.pipeline.score_files",
    "students": "mira.api",
    "validate": "mira.api",
    "view": "mira.viewer.serve",
    "Worked": "mira.cluster.work",
    "k8s": "mira.cluster.jobs",
    "slurm": "mira.cluster.jobs",
    "work": "mira.cluster.verbs",
}

__all__ = [
    "AuditResult",
    "BareFiles",
    "BudgetError",
    "CascadedSource",
    "ComparisonResult",
    "Config",
    "ConfigError",
    "ConservationError",
    "DiffResult",
    "Embedder",
    "EndpointJudge",
    "Engine",
    "EvaluationResult",
    "Explanation",
    "Family",
    "FamilyName",
    "Fields",
    "Frozen",
    "InputError",
    "Judge",
    "JudgeError",
    "JudgeTask",
    "Judgement",
    "Log",
    "Method",
    "MiraError",
    "PairsPlan",
    "PairsResult",
    "Part",
    "PartFeatures",
    "Plan",
    "PlannedStage",
    "ProxyResult",
    "Quiet",
    "Ranked",
    "Record",
    "RejectedLine",
    "ReviewResult",
    "Rubric",
    "Run",
    "RunError",
    "RunFolder",
    "SelectionInputs",
    "SelectionMethod",
    "StudentsResult",
    "Terminal",
    "TextMatches",
    "Unscored",
    "Worked",
    "__version__",
    "adopt",
    "audit",
    "cascade",
    "compare",
    "demo",
    "diff",
    "evaluate",
    "explain",
    "freeze",
    "init",
    "k8s",
    "load_config",
    "open",
    "parse_reply",
    "plan",
    "proxy",
    "pull",
    "push",
    "review",
    "run",
    "score_bundle",
    "score_endpoint",
    "slurm",
    "students",
    "validate",
    "view",
    "work",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is asked for: `mira --help` need not wait for DuckDB and ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mira' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
