"""Planted faults under the other selection methods: as fitted on this run, as served, and in a random order."""

from collections.abc import Mapping, Sequence

from mira.arrays import Floats
from mira.config.settings import Config
from mira.corpus import shards
from mira.corpus.record import Record
from mira.errors import ConfigError, MiraError
from mira.evaluation.planted import Pair, Scorer, measure_planted
from mira.evaluation.results import PlantedFigures
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.methods.dataman import DataMan
from mira.selection.methods.method import load_method
from mira.selection.methods.ppl_endpoint import MeasuredPpl
from mira.selection.planning import make_plan, threshold_of
from mira.selection.values import SelectionMethod, values_path

__all__ = ["method_scorer", "planted_methods"]


def planted_methods(config: Config, run: RunFolder, log: Log, pairs: Sequence[Pair]) -> dict[str, list[PlantedFigures]]:
    """Measure the methods of `evaluate.methods` on planted faults.

    Recall is counted at the cutoffs that the method's own values have under the run's budget. It is left out where
    they would take a pass over the corpus (a method that has not ranked this corpus yet), where a source has a cutoff
    for each of its domains, and with noise, whose cutoffs are not on the scale of values. DataMan's overall scores are
    whole numbers: many pairs are equal, which counts half, and a copy at the cutoff counts as kept.

    Args:
        config: The settings.
        run: The run folder; dsir and ppl are fitted in it where that is not done, and replies of served models about
            originals and copies go to its journals.
        log: Where progress goes; a method that cannot run is noted there.
        pairs: Records with their copies.

    Returns:
        Method -> its figures, one per fault and one for all.
    """
    found: dict[str, list[PlantedFigures]] = {}
    for name in dict.fromkeys(config.evaluate.methods) if pairs else ():
        try:
            method = _load(name, config, run, log)
            scorer = method_scorer(method, config, run, log, pairs)
            cuts = _thresholds(config, run, method, log)
            found[name] = measure_planted(pairs, scorer, cuts, config.evaluate.interval, config.seed)
        except MiraError as error:
            log.note(f"planted, {name}: left out: {error}")
    return found


def method_scorer(method: SelectionMethod, config: Config, run: RunFolder, log: Log, pairs: Sequence[Pair]) -> Scorer:
    """Return a method's values of records and copies.

    A copy is valued under its original's id, which decides the model that ppl measures it by (one that has not been
    trained on the original) and the noise of dsir. Only random order gives it a place of its own. Served models are
    asked about originals and copies alike.
    """
    origin = {(p.degraded.source, p.degraded.id): p.original.id for p in pairs}

    def score(records: Sequence[Record]) -> Floats:
        ids = [origin.get((record.source, record.id), record.id) for record in records]
        return method.value_records(config, run, log, records, ids)

    return score


def _load(name: str, config: Config, run: RunFolder, log: Log) -> SelectionMethod:
    """Return a method, without having its endpoint judge the corpus."""
    if name == "dataman":
        return DataMan()
    served = name == "ppl" and config.select.ppl.endpoint
    method = MeasuredPpl(config.select.ppl.slice) if served else load_method(name, config, run, log)
    if method.to_median:
        raise ConfigError("slice `middle` ranks by the distance to a median", "Set select.ppl.slice to low or high.")
    return method


def _thresholds(config: Config, run: RunFolder, method: SelectionMethod, log: Log) -> Mapping[str, float] | None:
    of_source = shards(config.corpus)
    paths = [values_path(run, method.name, s, shard.name) for s, parts in of_source.items() for shard in parts]
    ranked = method.name == "random" or all(path.is_file() for path in paths)
    if config.select.temperature or not ranked:
        return None
    plan = make_plan(config, run, method, log)
    rules = {source: plan.retention.of_source(source) for source in of_source}
    cuts = {source: threshold_of(own[0].cutoff) for source, own in rules.items() if len(own) == 1}
    return {source: cut for source, cut in cuts.items() if cut is not None}
