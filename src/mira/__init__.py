"""mira: choose the training data of language models' mid-training by quality, source by source.

Each stage is a function from files to files, `stage(config, run, log) -> summary`, with the name of its verb::

    import mira

    config = mira.load_config("mira.yaml")
    mira.run_stages(config)                  # all that is not up to date, as `mira run` does
    mira.run_stages(config, ["select"])      # one stage, with fingerprint and manifest
    mira.select(config, mira.RunFolder(config.run), mira.Quiet())  # the bare stage
"""

import importlib
import sys
from types import ModuleType
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
    from mira.config.loading import load_config
    from mira.config.settings import Config
    from mira.corpus import Record, build_index
    from mira.demo.demo import demo
    from mira.discovery.stage import discover
    from mira.distillation.stage import distill
    from mira.grouping.stage import group
    from mira.judging.grammar.reply import parse_reply
    from mira.judging.judge import Judge, JudgeTask
    from mira.labelling.stage import label
    from mira.pipeline.plan import plan
    from mira.pipeline.runner import run_stages
    from mira.pipeline.validate import validate
    from mira.progress import Quiet, Terminal
    from mira.reliability.stage import reliability
    from mira.report import report
    from mira.rubric.judgement import Judgement
    from mira.rubric.rubric import Rubric
    from mira.run_folder.paths import RunFolder
    from mira.scoring import score
    from mira.selection.stage import select
    from mira.unscored import Unscored

_HOMES = {
    "Config": "mira.config.settings",
    "Judge": "mira.judging.judge",
    "JudgeTask": "mira.judging.judge",
    "Judgement": "mira.rubric.judgement",
    "Quiet": "mira.progress",
    "Record": "mira.corpus",
    "Rubric": "mira.rubric.rubric",
    "RunFolder": "mira.run_folder.paths",
    "Terminal": "mira.progress",
    "Unscored": "mira.unscored",
    "build_index": "mira.corpus",
    "demo": "mira.demo.demo",
    "discover": "mira.discovery.stage",
    "distill": "mira.distillation.stage",
    "group": "mira.grouping.stage",
    "label": "mira.labelling.stage",
    "load_config": "mira.config.loading",
    "parse_reply": "mira.judging.grammar.reply",
    "plan": "mira.pipeline.plan",
    "reliability": "mira.reliability.stage",
    "report": "mira.report",
    "run_stages": "mira.pipeline.runner",
    "score": "mira.scoring",
    "select": "mira.selection.stage",
    "validate": "mira.pipeline.validate",
}

__all__ = [
    "BudgetError",
    "Config",
    "ConfigError",
    "ConservationError",
    "InputError",
    "Judge",
    "JudgeError",
    "JudgeTask",
    "Judgement",
    "MiraError",
    "Quiet",
    "Record",
    "Rubric",
    "RunError",
    "RunFolder",
    "Terminal",
    "Unscored",
    "__version__",
    "build_index",
    "demo",
    "discover",
    "distill",
    "group",
    "label",
    "load_config",
    "parse_reply",
    "plan",
    "reliability",
    "report",
    "run_stages",
    "score",
    "select",
    "validate",
]


class _Package(ModuleType):
    """Loads names when they are asked for: `mira --help` need not wait for scikit-learn and ONNX Runtime.

    Some stages have the name of their folder; `mira.report` is the stage, whether or not the folder is imported yet.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'mira' has no attribute '{name}'")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__(self) -> list[str]:
        return sorted(__all__)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):  # the import system sets submodules
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
