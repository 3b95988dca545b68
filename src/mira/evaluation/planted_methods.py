"""Planted faults under the selection methods that read texts, as fitted on this run, and under a random order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa

from mira.config import Config
from mira.corpus import shards
from mira.corpus.record import Record
from mira.errors import ConfigError, MiraError
from mira.evaluation.planted import Pair, Scorer, measure_planted
from mira.progress import Log
from mira.reliability.stats import Floats
from mira.run import RunFolder
from mira.selection.dsir import Dsir
from mira.selection.keys import hash_ids, uniform
from mira.selection.load import load_method
from mira.selection.ppl import Ppl
from mira.selection.stage import make_plan, threshold_of
from mira.selection.values import SelectionMethod, values_path

__all__ = ["method_scorer", "planted_methods"]


def planted_methods(config: Config, run: RunFolder, log: Log, pairs: Sequence[Pair]) -> dict[str, list[dict[str, Any]]]:
    """Measure the methods of `evaluate.methods` on planted faults.

    Recall is counted at the cutoffs that the method's own values have under the run's budget. It is left out where
    they would take a pass over the corpus (a method that reads texts and has not ranked this corpus yet), and with
    noise, whose cutoffs are not on the scale of values.

    Args:
        config: The settings.
        run: The run folder; dsir and ppl are fitted in it where that is not done.
        log: Where progress goes; a method that cannot run is noted there.
        pairs: Records with their copies.

    Returns:
        Method -> its figures, one a fault and one for all (`PlantedFigures`).
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys(config.evaluate.methods) if pairs else ():
        try:
            method = _load(name, config, run, log)
            scorer = method_scorer(method, config, pairs)
            cuts = _thresholds(config, run, method, log)
        except MiraError as error:
            log.note(f"planted, {name}: left out: {error}")
            continue
        found[name] = [asdict(f) for f in measure_planted(pairs, scorer, cuts, config.evaluate.interval, config.seed)]
    return found


def method_scorer(method: SelectionMethod, config: Config, pairs: Sequence[Pair]) -> Scorer:
    """Return a method's values of records and copies; random order where the method reads no text.

    A copy is valued under its original's id, which decides the model that ppl measures it by (one that has not been
    trained on the original) and the noise of dsir. Only random order gives it a place of its own.
    """
    origin = {(p.degraded.source, p.degraded.id): p.original.id for p in pairs}

    def random(source: str, records: Sequence[Record]) -> Floats:
        return uniform(hash_ids(pa.array([r.id for r in records], pa.string()), config.seed, source, "random"))

    def read(source: str, records: Sequence[Record]) -> Floats:
        assert isinstance(method, Dsir | Ppl)
        ids = [origin.get((source, r.id), r.id) for r in records]
        return method.values_of(config, source, ids, [r.text for r in records])

    return _by_source(read if isinstance(method, Dsir | Ppl) else random)


def _by_source(value: Callable[[str, Sequence[Record]], Floats]) -> Scorer:
    def score(records: Sequence[Record]) -> Floats:
        values = np.full(len(records), np.nan)
        sources = np.array([r.source for r in records], dtype=object)
        for source in dict.fromkeys(sources):
            own = sources == source
            values[own] = value(source, list(compress(records, own)))
        return values

    return score


def _load(name: str, config: Config, run: RunFolder, log: Log) -> SelectionMethod:
    if name == "ppl" and config.select.ppl.endpoint:
        raise ConfigError("spoiled copies are not sent to the endpoint of select.ppl", "Nothing needs to be done.")
    method = load_method(name, config, run, log)
    if method.to_median:
        raise ConfigError("slice `middle` ranks by the distance to a median", "Set select.ppl.slice to low or high.")
    return method


def _thresholds(config: Config, run: RunFolder, method: SelectionMethod, log: Log) -> Mapping[str, float] | None:
    of_source = shards(config)
    paths = [values_path(run, method.name, s, shard.name) for s, parts in of_source.items() for shard in parts]
    ranked = all(path.is_file() for path in paths)
    if config.select.temperature or (method.reads_text and not ranked):
        return None
    plan = make_plan(config, run, method, log)
    rules = {source: plan.retention.of_source(source) for source in of_source}
    cuts = {source: threshold_of(own[0].cutoff) for source, own in rules.items() if len(own) == 1}
    return {source: cut for source, cut in cuts.items() if cut is not None}
