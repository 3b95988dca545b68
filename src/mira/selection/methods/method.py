"""Declarations of selection methods: name, stages and files needed, and how a method is loaded."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from inspect import signature
from typing import NamedTuple

import numpy as np

from mira import plugins
from mira.arrays import Floats
from mira.config.settings import CorpusSettings, EndpointSettings, SelectSettings, SourceSettings
from mira.corpus import shards
from mira.corpus.record import Record
from mira.errors import ConfigError
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.rating import RatingJob
from mira.selection.values import SelectionInputs, SelectionMethod

__all__ = [
    "Asked",
    "BaseMethod",
    "Method",
    "by_source",
    "find_method",
    "load_method",
    "method_names",
    "ready_method",
    "target_files",
    "target_needs",
]


class BaseMethod:
    """The parts of `SelectionMethod` that most methods share: values judge records and come from sidecar files."""

    name = ""
    has_quality = True
    reads_text = False

    @property
    def to_median(self) -> bool:
        """Whether the records nearest to the pool's median are best."""
        return False

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Refuse: most methods know the records of the corpus only.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"method {self.name} cannot value records outside the corpus", "Choose another method.")


def by_source(
    records: Sequence[Record], ids: Sequence[str], value: Callable[[str, Sequence[str], Sequence[str]], Floats]
) -> Floats:
    """Return the values of records, computed for one source at a time from (source, ids, texts)."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        places.setdefault(record.source, []).append(place)
    values = np.full(len(records), np.nan)
    for source, own in places.items():
        values[own] = value(source, [ids[at] for at in own], [records[at].text for at in own])
    return values


class Asked(NamedTuple):
    """A method that ranks by what an endpoint says of every record, for workers that ask it shard by shard.

    Attributes:
        job: Opens what there is to ask.
        method: The method; ranks the records of a shard that has been asked about.
    """

    job: Callable[[SelectionInputs], AbstractContextManager[RatingJob]]
    method: SelectionMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A selection method as `select.method` names it.

    Attributes:
        name: Its name.
        load: Returns the method, ready to rank; fits it, or has its endpoint asked, first where that is needed.
        needs: Stages whose output it reads besides `index`.
        files: Files that it reads but no setting names: name -> hash.
        endpoint: The endpoint that it calls; None if it uses none.
        asked: How workers ask that endpoint; None if it uses none.
        alone: Why workers cannot value shards each on its own, such as a fit to the whole corpus; "" where they can.
    """

    name: str
    load: Callable[[SelectionInputs], SelectionMethod]
    needs: Callable[[SelectSettings], Sequence[str]] = lambda _select: ()
    files: Callable[[SelectSettings, CorpusSettings, RunFolder], Mapping[str, str]] = lambda _select, _corpus, _run: {}
    endpoint: Callable[[SelectSettings], EndpointSettings | None] = lambda _select: None
    asked: Callable[[SelectSettings], Asked | None] = lambda _select: None
    alone: Callable[[SelectSettings], str] = lambda _select: ""


_ARGUMENTS = {"load": 1, "needs": 1, "files": 3, "endpoint": 1, "asked": 1, "alone": 1}


def method_names() -> tuple[str, ...]:
    """Return the names of all methods: those of mira, and those that installed packages add."""
    return plugins.names(plugins.METHODS)


def find_method(name: str) -> Method:
    """Return a method's declaration.

    Args:
        name: The name; "column.edu" is the method `column` by the foreign score `edu`.

    Raises:
        ConfigError: No method has this name, or an installed package's was written for another version of mira.
    """
    kind, _, score = name.partition(".")
    if kind == "column" and score:
        of_score: Method = plugins.resolve("mira.selection.methods.column:of_score")(score)
        return of_score
    found: Method = plugins.load(plugins.METHODS, name)
    for part, n in _ARGUMENTS.items():
        try:
            signature(getattr(found, part)).bind(*[None] * n)
        except TypeError:
            raise ConfigError(
                f"select.method: {name} was written for another version of mira: its `{part}` does not take "
                f"{n} argument{'s' if n > 1 else ''}",
                "Update the package that adds the method.",
            ) from None
    return found


def load_method(name: str, inputs: SelectionInputs) -> SelectionMethod:
    """Return a method that is ready to rank.

    Raises:
        ConfigError: No method has this name.
        JudgeError: Its endpoint cannot be used, or left too many records without a score.
        RunError: What the method needs is not in the run folder yet.
    """
    return find_method(name).load(inputs)


def ready_method(name: str, inputs: SelectionInputs) -> SelectionMethod:
    """Return a method for shards that are done, one by one: as `load_method`, but no endpoint is asked."""
    asked = find_method(name).asked(inputs.select)
    return asked.method if asked else load_method(name, inputs)


def target_needs(target: SourceSettings | str) -> tuple[str, ...]:
    """Return the stages that a method's target texts come from: `top_judged` needs the teacher's labels."""
    return ("group", "discover", "label") if target == "top_judged" else ()


def target_files(corpus: CorpusSettings, setting: str, target: SourceSettings | str) -> dict[str, str]:
    """Return setting -> hash of the texts that a method is fitted on, if they are a source of their own."""
    if not isinstance(target, SourceSettings):
        return {}
    found = shards(replace(corpus, sources=[target]))[target.name]
    return {setting: hash_json([[s.name, s.fingerprint] for s in found])}
