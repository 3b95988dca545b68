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
    from mira.checks import validate
    from mira.config import Config
    from mira.config_file import load_config
    from mira.corpus import Record, build_index
    from mira.demo.demo import demo
    from mira.discovery import Rubric, discover, group
    from mira.distillation import distill, label
    from mira.judging import Judge, Judgement, JudgeTask, Unscored, parse_reply
    from mira.pipeline import run_stages
    from mira.plan import plan
    from mira.progress import Quiet, Terminal
    from mira.reliability import reliability
    from mira.report import report
    from mira.run import RunFolder
    from mira.scoring import score
    from mira.selection import select

_HOMES = {
    "Config": "mira.config",
    "Judge": "mira.judging",
    "JudgeTask": "mira.judging",
    "Judgement": "mira.judging",
    "Quiet": "mira.progress",
    "Record": "mira.corpus",
    "Rubric": "mira.discovery",
    "RunFolder": "mira.run",
    "Terminal": "mira.progress",
    "Unscored": "mira.judging",
    "build_index": "mira.corpus",
    "demo": "mira.demo.demo",
    "discover": "mira.discovery",
    "distill": "mira.distillation",
    "group": "mira.discovery",
    "label": "mira.distillation",
    "load_config": "mira.config_file",
    "parse_reply": "mira.judging",
    "plan": "mira.plan",
    "reliability": "mira.reliability",
    "report": "mira.report",
    "run_stages": "mira.pipeline",
    "score": "mira.scoring",
    "select": "mira.selection",
    "validate": "mira.checks",
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
