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

import errno
import os
import resource
from collections.abc import Sequence

__all__ = [
    "BudgetError",
    "ConfigError",
    "ConservationError",
    "InputError",
    "JudgeError",
    "MiraError",
    "RunError",
    "install_hint",
    "noted",
    "refused_by_system",
    "together",
    "way_out",
]

_NO_RIGHT = "mira needs the right to read its input, and to write its run folder and every other folder it is given."
_FULL = "Make room on that disk and run again: finished work is kept."
_GONE = "Check the path. If a file of the run folder is gone, its stage writes it anew with --force."
_WAYS_OUT = {
    errno.EACCES: _NO_RIGHT, errno.EPERM: _NO_RIGHT, errno.EROFS: _NO_RIGHT,
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL,
    errno.ENOENT: _GONE, errno.ENOTDIR: _GONE, errno.EISDIR: _GONE,
}  # fmt: skip


def install_hint(extra: str) -> str:
    """Return the command that installs an extra, from a package index or from a checkout as the README does."""
    return f"pip install 'mira-select[{extra}]', or in a checkout: pip install '.[{extra}]'"


class MiraError(Exception):
    """An error that a user can act on.

    Args:
        message: What is wrong, with file, line and field, if any.
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


def together(problems: Sequence[MiraError]) -> MiraError:
    """Return one error for one or more problems; of several, the message lists each with its way out."""
    if len(problems) == 1:
        return problems[0]
    kinds = {type(problem) for problem in problems}
    kind = kinds.pop() if len(kinds) == 1 else MiraError
    listed = "\n".join(f"{number}. {problem}" for number, problem in enumerate(problems, 1))
    return kind(f"{len(problems)} problems:\n{listed}")


def refused_by_system(error: OSError) -> MiraError:
    """Return an error for a refusal of the operating system: missing rights, a full disk."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    otherwise = _WAYS_OUT.get(error.errno or 0, "Fix this and run again: finished work is kept.")
    return MiraError(f"{where}{error.strerror or error}", way_out(error, otherwise))


def noted(error: OSError, note: str) -> OSError:
    """Return an error with its way out, which `way_out` gives back."""
    error.add_note(note)
    return error


def way_out(error: OSError, otherwise: str) -> str:
    """Return the way out of a system error: the noted one, the open-files limit if that was reached, or `otherwise`."""
    if notes := getattr(error, "__notes__", None):
        return str(notes[0])
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return otherwise
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"This process may have {limit:,} files open. Allow more, and run again: ulimit -n 65536"
