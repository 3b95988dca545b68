"""Settings that hold paths: what kind of path, how a relative one is resolved, and where they are in the settings.

The type of a setting says that it is a path, once. From it follow that a relative path is taken from the folder of the
file that gives it, and that a stage which reads the setting is redone when what lies at the path changes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, PlainSerializer

from mira.run_folder.stored import run_path
from mira.run_folder.working_copy import given_as
from mira.tokens import BUILT_IN

__all__ = [
    "BundlePath",
    "FilePath",
    "ModelPath",
    "PathKind",
    "PathSetting",
    "RunPath",
    "SourcePath",
    "TokenizerPath",
    "path_settings",
    "resolve_paths",
]

_BUILT_IN_MODELS = ("minilm", "static", "ngram")


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


FilePath = Annotated[str, _Marker(PathKind.FILE)]
BundlePath = Annotated[str, _Marker(PathKind.BUNDLE)]
ModelPath = Annotated[str, _Marker(PathKind.MODEL)]
TokenizerPath = Annotated[str, _Marker(PathKind.TOKENIZER)]
SourcePath = Annotated[str, _Marker(PathKind.SOURCE)]
RunPath = Annotated[Path, BeforeValidator(run_path), PlainSerializer(given_as, when_used="json"), _Marker(PathKind.RUN)]

Place = tuple[str | int, ...]


def resolve_paths(model: type[BaseModel], value: Any, folder: Callable[[Place], Path], place: Place = ()) -> Any:
    """Make the relative paths in settings absolute.

    Args:
        model: What the settings are read as; its types say what is a path.
        value: The settings as plain values.
        folder: Returns the folder that a path at a place is relative to.
        place: Where `value` is in the settings.

    Returns:
        A copy with absolute local paths. URLs and names of models stay as they are.
    """
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for name, info in model.model_fields.items():
        if name in found:
            found[name] = _resolved((info.annotation, *info.metadata), found[name], folder, (*place, name))
    return found


def _resolved(types: tuple[Any, ...], value: Any, folder: Callable[[Place], Path], place: Place) -> Any:
    marker = next((found for found in types if isinstance(found, _Marker)), None)
    if marker is not None and isinstance(value, str):
        return _absolute(marker.kind, value, folder(place))
    for kind in types:
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            value = resolve_paths(kind, value, folder, place)
        elif origin is list and isinstance(value, list):
            value = [_resolved(arguments, inner, folder, (*place, at)) for at, inner in enumerate(value)]
        elif origin is dict and isinstance(value, dict):
            value = {key: _resolved(arguments[1:], inner, folder, (*place, key)) for key, inner in value.items()}
        elif origin is Annotated:
            value = _resolved((*arguments, *getattr(kind, "__metadata__", ())), value, folder, place)
        elif origin in (Union, UnionType):
            for member in arguments:
                value = _resolved((member,), value, folder, place)
    return value


def _absolute(kind: PathKind, path: str, folder: Path) -> str:
    """Resolve a path; a name of a model or a tokenizer, which may look like a relative path, stays as it is."""
    if not path or "://" in path:
        return path
    try:
        found = folder / Path(path).expanduser()
    except RuntimeError:  # the home of a user that does not exist
        found = folder / path
    if kind is PathKind.MODEL and (path in _BUILT_IN_MODELS or not found.exists()):
        return path
    if kind is PathKind.TOKENIZER and (path in BUILT_IN or not (path.endswith(".json") or found.exists())):
        return path
    return str(found)


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
