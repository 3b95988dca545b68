"""Results as dataclasses that are written to JSON files and read back."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from mira.errors import RunError
from mira.run_folder.files import read_json, write_json

__all__ = ["Figure", "read_result", "write_result"]

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
        return TypeAdapter(kind).validate_python(read_json(path))
    except (ValidationError, ValueError) as error:
        raise RunError(f"{path}: {_first(error)}", "Delete the file, and run the command that wrote it.") from None


def _first(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return "this is not JSON"
