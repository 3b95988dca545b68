"""Settings that hold paths: what kind of path, how a relative one is resolved, and where they are in the settings.

The type of a setting says that it is a path, once. From it follow that a relative path is taken from the settings
file's folder, and that a stage which reads the setting is redone when what lies at the path changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from mira.tokens import BUILT_IN

__all__ = [
    "FOLDER",
    "BundlePath",
    "FilePath",
    "ModelPath",
    "PathKind",
    "PathSetting",
    "RunPath",
    "SourcePath",
    "TokenizerPath",
    "path_settings",
]

_BUILT_IN_MODELS = ("minilm", "ngram")

FOLDER = "folder"
"""Key of the validation context: the folder that relative paths are relative to."""


class PathKind(StrEnum):
    """What lies at a path, which decides how it is resolved and how a change of it is noticed."""

    FILE = "file"  # a file or folder of data
    BUNDLE = "bundle"  # a scorer bundle
    MODEL = "model"  # a folder of weights, or a name
    TOKENIZER = "tokenizer"  # a tokenizer.json, or a name
    SOURCE = "source"  # records: files, globs or URLs
    RUN = "run"  # the run folder


@dataclass(frozen=True, slots=True)
class _Marker:
    kind: PathKind


class PathSetting(NamedTuple):
    """A setting that holds a path: its dotted name, its kind, and the path ("" where none is given)."""

    name: str
    kind: PathKind
    path: str


def _folder(info: ValidationInfo) -> Path | None:
    context = info.context or {}
    folder: Path | None = context.get(FOLDER)
    return folder


def _absolute(path: str, info: ValidationInfo) -> str:
    folder = _folder(info)
    return path if folder is None or not path or "://" in path else str(folder / Path(path).expanduser())


def _absolute_model(model: str, info: ValidationInfo) -> str:
    """Resolve a folder; a name, which may look like a relative path, stays as it is."""
    path = _absolute(model, info)
    return path if model not in _BUILT_IN_MODELS and Path(path).exists() else model


def _absolute_tokenizer(name: str, info: ValidationInfo) -> str:
    path = _absolute(name, info)
    return path if name not in BUILT_IN and (name.endswith(".json") or Path(path).exists()) else name


def _absolute_run(path: Path, info: ValidationInfo) -> Path:
    folder = _folder(info)
    is_url = path.parts[:1] and path.parts[0].endswith(":")  # Path("s3://bucket") is "s3:/bucket": refused later
    return path if folder is None or is_url else folder / path.expanduser()


FilePath = Annotated[str, AfterValidator(_absolute), _Marker(PathKind.FILE)]
BundlePath = Annotated[str, AfterValidator(_absolute), _Marker(PathKind.BUNDLE)]
ModelPath = Annotated[str, AfterValidator(_absolute_model), _Marker(PathKind.MODEL)]
TokenizerPath = Annotated[str, AfterValidator(_absolute_tokenizer), _Marker(PathKind.TOKENIZER)]
SourcePath = Annotated[str, AfterValidator(_absolute), _Marker(PathKind.SOURCE)]
RunPath = Annotated[Path, AfterValidator(_absolute_run), Field(validate_default=True)]


def path_settings(model: BaseModel, name: str = "") -> Iterator[PathSetting]:
    """Yield every setting of `model` that holds a path, those of nested sections included.

    Args:
        model: The settings, or a section of them.
        name: Dotted name of `model`, which the yielded names begin with.
    """
    for field, info in type(model).model_fields.items():
        inner = f"{name}.{field}" if name else field
        marker = _marker((info.annotation, *info.metadata))
        yield from _settings_in(getattr(model, field), inner, marker)


def _settings_in(value: Any, name: str, marker: _Marker | None) -> Iterator[PathSetting]:
    if isinstance(value, BaseModel):
        yield from path_settings(value, name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _settings_in(inner, f"{name}.{key}", marker)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _settings_in(inner, f"{name}.{at}", marker)
    elif marker is not None and isinstance(value, str):
        yield PathSetting(name, marker.kind, value)


def _marker(types: tuple[Any, ...]) -> _Marker | None:
    """Return the first marker in annotations, however deep in lists, mappings and unions."""
    for found in types:
        if isinstance(found, _Marker):
            return found
        if inner := _marker((*get_args(found), *getattr(found, "__metadata__", ()))):
            return inner
    return None
