"""The selection method `ppl`: which model measures, a local one or a served one."""

from mira.config.settings import Config
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import Method, target_files, target_needs
from mira.selection.methods.ppl import fit_ppl
from mira.selection.methods.ppl_endpoint import MeasuredPpl, score_ppl
from mira.selection.values import SelectionMethod

__all__ = ["METHOD"]


def _load(config: Config, run: RunFolder, log: Log) -> SelectionMethod:
    if config.select.ppl.endpoint is None:
        return fit_ppl(config, run, log)
    score_ppl(config, run, log)
    return MeasuredPpl(config.select.ppl.slice)


METHOD = Method(
    name="ppl",
    load=_load,
    needs=lambda config: () if config.select.ppl.endpoint else target_needs(config.select.ppl.reference),
    files=lambda config, _run: target_files(config, "select.ppl.reference", config.select.ppl.reference),
    endpoint=lambda config: config.select.ppl.endpoint,
)
