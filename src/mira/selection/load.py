"""Which class stands behind a name in `select.method`."""

from mira.config import Config
from mira.progress import Log
from mira.run import RunFolder
from mira.selection.aggregate import load_mask
from mira.selection.dataman import DataMan
from mira.selection.dsir import fit_dsir
from mira.selection.methods import Mira, RandomOrder, Raw
from mira.selection.ppl import fit_ppl
from mira.selection.values import SelectionMethod

__all__ = ["METHODS", "load_method"]

METHODS = ("raw", "random", "ppl", "dsir", "dataman", "mira")


def load_method(name: str, config: Config, run: RunFolder, log: Log) -> SelectionMethod:
    """Return a method that is ready to rank; fits it first where it has to be fitted.

    Raises:
        RunError: What the method needs is not in the run folder yet.
    """
    if name == "raw":
        return Raw()
    if name == "random":
        return RandomOrder()
    if name == "dsir":
        return fit_dsir(config, run, log)
    if name == "ppl":
        return fit_ppl(config, run, log)
    if name == "dataman":
        return DataMan()
    return Mira(load_mask(run))
