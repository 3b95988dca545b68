"""Which class stands behind a name in `select.method`."""

from mira.config.settings import Config
from mira.errors import RunError
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.methods.dataman import DataMan
from mira.selection.methods.dataman_endpoint import score_dataman
from mira.selection.methods.dsir import fit_dsir
from mira.selection.methods.mira import Mira
from mira.selection.methods.ppl import fit_ppl
from mira.selection.methods.ppl_endpoint import MeasuredPpl, score_ppl
from mira.selection.methods.simple import RandomOrder, Raw
from mira.selection.quality import load_mask
from mira.selection.values import SelectionMethod

__all__ = ["METHODS", "load_method"]

METHODS = ("raw", "random", "ppl", "dsir", "dataman", "mira")


def load_method(name: str, config: Config, run: RunFolder, log: Log) -> SelectionMethod:
    """Return a method that is ready to rank; fits it, or has its endpoint asked, first where that is needed.

    Raises:
        JudgeError: Its endpoint cannot be used, or left too many records without a score.
        RunError: What the method needs is not in the run folder yet.
    """
    if name == "raw":
        return Raw()
    if name == "random":
        return RandomOrder()
    if name == "dsir":
        return fit_dsir(config, run, log)
    if name == "ppl":
        if config.select.ppl.endpoint:
            score_ppl(config, run, log)
            return MeasuredPpl(config.select.ppl.slice)
        return fit_ppl(config, run, log)
    if name == "dataman":
        given = config.select.dataman
        if given.endpoint and not given.scores:
            score_dataman(config, run, log)
        elif not given.scores and not (run.path / "dataman").is_dir():
            raise RunError(
                "dataman ranks by scores that a DataMan model gives, and there are none",
                "Set select.dataman.endpoint (base_url and model of a served one, such as RuPeng/DataMan-1.5B-EN), or "
                "select.dataman.scores to a folder of them.",
            )
        return DataMan()
    return Mira(load_mask(run))
