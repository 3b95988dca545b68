"""mira: choose the training data of language models' mid-training by quality, source by source.

Every verb of the command line is a function of its name, on the same safe road::

    import mira

    run = mira.run("mira.yaml")                  # all that is not up to date, as `mira run` does
    run = mira.run("mira.yaml", "select")        # one stage

    run = mira.open("run")                       # look at a run
    run.kept                                     # a pyarrow.Table
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
    from mira.api import plan, run, validate
    from mira.config.loading import load_config
    from mira.config.settings import Config
    from mira.corpus.families.family import Family, Fields, PartFeatures
    from mira.corpus.record import Part, Record
    from mira.embedding.embedder import Embedder
    from mira.engine.engine import Engine
    from mira.family import FamilyName
    from mira.judging.endpoint import EndpointJudge
    from mira.judging.grammar.reply import parse_reply
    from mira.judging.judge import Judge, JudgeTask
    from mira.pipeline.plan import PlannedStage
    from mira.progress import Log, Quiet, Terminal
    from mira.rubric.judgement import Judgement
    from mira.rubric.rubric import Rubric
    from mira.run_folder.paths import RunFolder
    from mira.run_view import Run
    from mira.run_view import open_run as open
    from mira.selection.methods.method import Method
    from mira.selection.values import Ranked, SelectionInputs, SelectionMethod
    from mira.unscored import Unscored

_HOMES = {
    "Config": "mira.config.settings",
    "Embedder": "mira.embedding.embedder",
    "EndpointJudge": "mira.judging.endpoint",
    "Engine": "mira.engine.engine",
    "Family": "mira.corpus.families.family",
    "FamilyName": "mira.family",
    "Fields": "mira.corpus.families.family",
    "Judge": "mira.judging.judge",
    "JudgeTask": "mira.judging.judge",
    "Judgement": "mira.rubric.judgement",
    "Log": "mira.progress",
    "Method": "mira.selection.methods.method",
    "Part": "mira.corpus.record",
    "PartFeatures": "mira.corpus.families.family",
    "PlannedStage": "mira.pipeline.plan",
    "Quiet": "mira.progress",
    "Ranked": "mira.selection.values",
    "Record": "mira.corpus.record",
    "Rubric": "mira.rubric.rubric",
    "Run": "mira.run_view",
    "RunFolder": "mira.run_folder.paths",
    "SelectionInputs": "mira.selection.values",
    "SelectionMethod": "mira.selection.values",
    "Terminal": "mira.progress",
    "Unscored": "mira.unscored",
    "load_config": "mira.config.loading",
    "open": "mira.run_view:open_run",
    "parse_reply": "mira.judging.grammar.reply",
    "plan": "mira.api",
    "run": "mira.api",
    "validate": "mira.api",
}

__all__ = [
    "BudgetError",
    "Config",
    "ConfigError",
    "ConservationError",
    "Embedder",
    "EndpointJudge",
    "Engine",
    "Family",
    "FamilyName",
    "Fields",
    "InputError",
    "Judge",
    "JudgeError",
    "JudgeTask",
    "Judgement",
    "Log",
    "Method",
    "MiraError",
    "Part",
    "PartFeatures",
    "PlannedStage",
    "Quiet",
    "Ranked",
    "Record",
    "Rubric",
    "Run",
    "RunError",
    "RunFolder",
    "SelectionInputs",
    "SelectionMethod",
    "Terminal",
    "Unscored",
    "__version__",
    "load_config",
    "open",
    "parse_reply",
    "plan",
    "run",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is asked for: `mira --help` need not wait for DuckDB and ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mira' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
