"""Errors that mira raises on purpose.

The tree::

    MiraError            anything a user can act on; the CLI prints it without a traceback
    ├── ConfigError      mira.yaml is wrong
    ├── InputError       a data file is wrong
    ├── RunError         the run folder cannot be used, or a stage's input is not there yet
    ├── JudgeError       an LLM endpoint cannot be used
    ├── BudgetError      token budget, floors and caps contradict each other
    └── ConservationError  records were lost or doubled: in != kept + dropped + unscored + rejected
"""

__all__ = ["BudgetError", "ConfigError", "ConservationError", "InputError", "JudgeError", "MiraError", "RunError"]


class MiraError(Exception):
    """An error that a user can act on.

    Args:
        message: What is wrong, with file, line and field where there are any.
        hint: What the user can do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigError(MiraError):
    """The configuration is wrong."""


class InputError(MiraError):
    """A data file is wrong."""


class RunError(MiraError):
    """The run folder cannot be used, or a stage's input is not there yet."""


class JudgeError(MiraError):
    """An LLM endpoint cannot be used."""


class BudgetError(MiraError):
    """A token budget, floors and caps contradict each other."""


class ConservationError(MiraError):
    """Records were lost or doubled."""
