"""Planted faults under the other selection methods: as fitted on this run, as served, and in a random order."""

from collections.abc import Mapping, Sequence

from mira.arrays import Floats
from mira.config.settings import EvaluateSettings
from mira.corpus import shards
from mira.corpus.record import Record
from mira.errors import ConfigError, MiraError
from mira.evaluation.planted import Pair, Scorer, measure_planted
from mira.evaluation.results import PlantedFigures
from mira.selection.methods.dataman import DataMan
from mira.selection.methods.method import load_method
from mira.selection.methods.ppl_endpoint import MeasuredPpl
from mira.selection.planning import make_plan, threshold_of
from mira.selection.values import SelectionInputs, SelectionMethod, values_path

__all__ = ["load_scorer", "method_scorer", "planted_methods"]


def planted_methods(
    inputs: SelectionInputs, settings: EvaluateSettings, pairs: Sequence[Pair]
) -> dict[str, list[PlantedFigures]]:
    """Measure the methods of `evaluate.methods` on planted faults.

    Recall is counted at the cutoffs that the method's own values have under the run's budget. It is left out where
    they would take a pass over the corpus (a method that has not ranked this corpus yet), where a source has a cutoff
    for each of its domains, and with noise, whose cutoffs are not on the scale of values. DataMan's overall scores are
    whole numbers: many pairs are equal, which counts half, and a copy at the cutoff counts as kept.

    Args:
        inputs: What a selection is made from. In its run folder dsir and ppl are fitted where that is not done, and
            replies of served models about originals and copies go to its journals. Its log notes methods that cannot
            run.
        settings: The methods, and the confidence of the intervals.
        pairs: Records with their copies.

    Returns:
        Method -> its figures, one per fault and one for all.
    """
    found: dict[str, list[PlantedFigures]] = {}
    for name in dict.fromkeys(settings.methods) if pairs else ():
        try:
            method = load_scorer(name, inputs)
            scorer = method_scorer(method, inputs, pairs)
            cuts = _thresholds(inputs, method)
            found[name] = measure_planted(pairs, scorer, cuts, settings.interval, inputs.seed)
        except MiraError as error:
            inputs.log.note(f"planted, {name}: left out: {error}")
    return found


def method_scorer(method: SelectionMethod, inputs: SelectionInputs, pairs: Sequence[Pair]) -> Scorer:
    """Return a method's values of records and copies.

    A copy is valued under its original's id, which decides the model that ppl measures it by (one that has not been
    trained on the original) and the noise of dsir. Only random order gives it a place of its own. Served models are
    asked about originals and copies alike.
    """
    origin = {(p.degraded.source, p.degraded.id): p.original.id for p in pairs}

    def score(records: Sequence[Record]) -> Floats:
        ids = [origin.get((record.source, record.id), record.id) for record in records]
        return method.value_records(inputs, records, ids)

    return score


def load_scorer(name: str, inputs: SelectionInputs) -> SelectionMethod:
    """Return a method, without having its endpoint judge the corpus."""
    if name == "dataman":
        return DataMan(inputs.select.dataman)
    served = name == "ppl" and inputs.select.ppl.endpoint
    method = MeasuredPpl(inputs.select.ppl.keep) if served else load_method(name, inputs)
    if method.to_median:
        raise ConfigError(
            "select.ppl.keep: middle ranks by the distance to a median", "Set select.ppl.keep to low or high."
        )
    return method


def _thresholds(inputs: SelectionInputs, method: SelectionMethod) -> Mapping[str, float] | None:
    of_source = shards(inputs.corpus)
    paths = [values_path(inputs.run, method.name, s, shard.name) for s, parts in of_source.items() for shard in parts]
    ranked = method.name == "random" or all(path.is_file() for path in paths)
    if inputs.select.temperature or not ranked:
        return None
    plan = make_plan(inputs, method)
    rules = {source: plan.retention.of_source(source) for source in of_source}
    cuts = {source: threshold_of(own[0].cutoff) for source, own in rules.items() if len(own) == 1}
    return {source: cut for source, cut in cuts.items() if cut is not None}
