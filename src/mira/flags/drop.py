"""What selection leaves out because of flags, where the settings say so."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import FlagSettings
from mira.corpus import Shard, records_key
from mira.errors import RunError
from mira.flags.stage import RECORDS, flags_path
from mira.run_folder.paths import RunFolder

__all__ = ["Dropped", "dropped_rows"]


class Dropped(NamedTuple):
    """Records of a shard to be left out.

    Attributes:
        rows: Their rows, int64, ascending.
        reasons: One string a row: "duplicate", "near_duplicate" or "contaminated".
    """

    rows: npt.NDArray[np.int64]
    reasons: pa.Array


def dropped_rows(settings: FlagSettings, run: RunFolder, shard: Shard) -> Dropped:
    """Return the records of a shard that `flags.contaminated` drops; which duplicates go is decided by the selection.

    Reads nothing where `flags.duplicates` and `flags.contaminated` are keep: the flags need not be there then.

    Raises:
        RunError: The shard is not flagged yet, or has changed since.
    """
    nothing = Dropped(np.zeros(0, np.int64), pa.array([], pa.string()))
    if settings.duplicates == "keep" and settings.contaminated == "keep":
        return nothing
    path = flags_path(run, shard)
    hint = "Run `mira flag` first, or set flags.duplicates and flags.contaminated to keep."
    if not path.is_file():
        raise RunError(f"{path} is not there yet", hint)
    table = pq.read_table(path, columns=["row", "contaminated_by"])
    if table.schema.metadata[RECORDS] != records_key(run, shard).encode():
        raise RunError(f"source '{shard.source}': {shard.path} has changed since it was flagged", hint)
    if settings.contaminated == "keep":
        return nothing
    rows = table["row"].filter(table["contaminated_by"].is_valid()).to_numpy()
    return Dropped(rows, pa.array(["contaminated"] * len(rows), pa.string()))
