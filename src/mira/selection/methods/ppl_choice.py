"""The selection method `ppl`: which model measures, a local one or a served one."""

from mira.config.settings import SelectSettings
from mira.selection.methods.method import Asked, Method, target_files, target_needs
from mira.selection.methods.ppl import fit_ppl
from mira.selection.methods.ppl_endpoint import MeasuredPpl, ppl_job, score_ppl
from mira.selection.values import SelectionInputs, SelectionMethod

__all__ = ["METHOD"]


def _alone(select: SelectSettings) -> str:
    if select.ppl.endpoint or select.ppl.model != "ngram":
        return ""
    return "the n-gram model of ppl is trained on records of all shards"


def _load(inputs: SelectionInputs) -> SelectionMethod:
    settings = inputs.select.ppl
    if settings.endpoint is None:
        return fit_ppl(inputs)
    score_ppl(inputs)
    return MeasuredPpl(settings.keep)


METHOD = Method(
    name="ppl",
    load=_load,
    needs=lambda select: () if select.ppl.endpoint else target_needs(select.ppl.reference),
    files=lambda select, corpus, _run: target_files(corpus, "select.ppl.reference", select.ppl.reference),
    endpoint=lambda select: select.ppl.endpoint,
    alone=_alone,
    asked=lambda select: Asked(ppl_job, MeasuredPpl(select.ppl.keep)) if select.ppl.endpoint else None,
)
