"""Extension points: built-in names, and those that installed packages add through entry points.

A package adds a family, a judge, a selection method, an embedder or an engine with an entry point in its
pyproject.toml::

    [project.entry-points."mira.methods"]
    my_method = "my_package.my_method:METHOD"

Built-in names win, so that a package cannot replace what mira documents.
"""

import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from mira.errors import ConfigError

__all__ = ["EMBEDDERS", "ENGINES", "FAMILIES", "JUDGES", "METHODS", "forget", "is_known", "load", "names", "resolve"]

FAMILIES = "mira.families"
"""Families, named by a source's `family`: `mira.corpus.families.Family`."""

METHODS = "mira.methods"
"""Selection methods: `mira.selection.methods.method.Method`."""

EMBEDDERS = "mira.embedders"
"""Embedders: functions (settings, threads) -> `mira.embedding.embedder.Embedder`."""

ENGINES = "mira.engines"
"""Engines: functions (workers) -> `mira.engine.engine.Engine`."""

JUDGES = "mira.judges"
"""Teachers that score on a rubric, named by `teacher.judge`: functions (`TeacherSettings`, `Rubric`, `Prompt`,
`Journal`) -> `mira.judging.judge.Judge`."""

_BUILT_IN: dict[str, dict[str, str]] = {
    FAMILIES: {
        "text": "mira.corpus.families.text:FAMILY",
        "qa": "mira.corpus.families.pairs:QA",
        "qa_with_think": "mira.corpus.families.pairs:QA_WITH_THINK",
        "agent": "mira.corpus.families.agent:FAMILY",
    },
    JUDGES: {"built-in": "mira.judging.teacher:Teacher"},
    METHODS: {
        "raw": "mira.selection.methods.simple:RAW",
        "random": "mira.selection.methods.simple:RANDOM",
        "ppl": "mira.selection.methods.ppl_choice:METHOD",
        "dsir": "mira.selection.methods.dsir:METHOD",
        "dataman": "mira.selection.methods.dataman_choice:METHOD",
        "column": "mira.selection.methods.column:METHOD",
        "mira": "mira.selection.methods.mira:METHOD",
    },
    EMBEDDERS: {"minilm": "mira.embedding.load:load_minilm", "static": "mira.embedding.static:load_static"},
    ENGINES: {"local": "mira.engine.engine:LocalEngine", "ray": "mira.engine.engine:RayEngine"},
}


def names(kind: str) -> tuple[str, ...]:
    """Return the names that may be used for an extension point: built-in ones first, then those of packages."""
    return tuple(dict.fromkeys([*_BUILT_IN[kind], *_installed(kind)]))


def is_known(kind: str, name: str) -> bool:
    """Return whether a name may be used. A built-in one needs no search for packages."""
    return name in _BUILT_IN[kind] or name in _installed(kind)


def load(kind: str, name: str) -> Any:
    """Return the object behind a name.

    Raises:
        ConfigError: The name is unknown, or the package that should provide it cannot be imported.
    """
    target = _BUILT_IN[kind].get(name)
    if target is not None:
        return resolve(target)
    found = _installed(kind).get(name)
    if found is None:
        raise ConfigError(f"'{name}' is not one of {kind}", f"Known: {', '.join(names(kind))}.")
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{kind}: '{name}' cannot be loaded: {error}", "Reinstall the package that adds it."
        ) from None


def resolve(target: Any) -> Any:
    """Return the object that "module:attribute" names; anything but a string is that object itself.

    So one room declares what another has, and imports it only where it is used.
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def _installed(kind: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=kind)}


def forget() -> None:
    """Look for installed packages again at the next use; for programs that install some while they run."""
    _installed.cache_clear()
