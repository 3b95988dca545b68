"""Results as dataclasses that are written to JSON files and read back."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from mira.errors import RunError
from mira.run_folder.files import read_json, write_json

__all__ = ["Figure", "from_plain", "read_result", "write_result"]

_REDO = "Delete the file, and run the command that wrote it."
Result = TypeVar("Result")

Figure = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A number that is NaN where undefined; null in the file."""


def write_result(path: Path, result: Any) -> None:
    """Write a dataclass as JSON: one key per field, in order, atomically."""
    write_json(path, TypeAdapter(type(result)).dump_python(result))


def read_result(kind: type[Result], path: Path) -> Result:
    """Read what `write_result` has written. Keys that the dataclass lacks are ignored.

    Raises:
        RunError: The file's content does not fit the dataclass.
    """
    try:
        value = read_json(path)
    except ValueError:
        raise RunError(f"{path}: this is not JSON", _REDO) from None
    return from_plain(kind, value, path)


def from_plain(kind: type[Result], value: Any, path: Path) -> Result:
    """Make a dataclass of the plain values that it was written as.

    Args:
        kind: The dataclass.
        value: A mapping. Keys that the dataclass lacks are ignored.
        path: The file that they come from, for messages.

    Raises:
        RunError: The values do not fit the dataclass.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        raise RunError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", _REDO) from None
