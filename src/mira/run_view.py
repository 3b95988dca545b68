"""A finished or running run, to look at from Python: its tables, its documents, and why one record was kept."""

import glob
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError, InputError, RunError
from mira.grouping.groups import Group, load_groups
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.selection.explain.explain import explain
from mira.selection.explain.results import Explanation

__all__ = ["Run", "open_run"]

_SETTINGS = "mira.yaml"
_BY_SHARD = ("index", "scores", "selection", "flags", "cascade")
_MEMORY = "1GB"


class Run:
    """A run folder, opened for reading. Nothing is written.

    Tables are `pyarrow.Table`s; `sql` queries them without loading them whole. A row of `index` is a line of a source,
    a row of `scores` or `selection` a valid record. No table holds the records' text.

    Attributes:
        folder: Paths of the run folder.
    """

    def __init__(self, folder: RunFolder, config: Config | None = None) -> None:
        """Open a run folder. `open_run` also takes the path of a settings file."""
        self.folder = folder
        self._config = config
        self._con: duckdb.DuckDBPyConnection | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}, tables={list(self.tables)})"

    @property
    def config(self) -> Config:
        """The settings.

        Raises:
            ConfigError: The run was opened by its folder, and no mira.yaml beside it names this folder.
        """
        if self._config is None:
            raise ConfigError(
                f"{self.folder.path}: the settings of this run are not known",
                "Open the run by its settings file: mira.open('mira.yaml')",
            )
        return self._config

    @property
    def tables(self) -> Sequence[str]:
        """Names of the tables that exist so far, for `table` and `sql`."""
        return tuple(self._files())

    def table(self, name: str, source: str = "") -> pa.Table:
        """Return a table, all of it or that of one source.

        Args:
            name: index, labels, scores, cells, selection, flags or cascade.
            source: Name of a source; all by default.

        Raises:
            InputError: The run has no such table yet.
        """
        where, parameters = ("WHERE source = $source", {"source": source}) if source else ("", {})
        return self._query(f"SELECT * FROM {name} {where}", parameters, self._only(name))

    def sql(self, query: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a DuckDB query over the tables, e.g. "SELECT source, avg(quality) FROM selection GROUP BY source".

        Args:
            query: Names of tables are those of `tables`. Memory is bounded; the result is a table in memory.
            parameters: Values of `$name` in the query.

        Raises:
            duckdb.Error: The query is wrong.
        """
        return self._query(query, parameters or {}, self._files())

    @property
    def index(self) -> pa.Table:
        """Every line of every source: source, shard, row, id, n_tokens, n_chars, reason_rejected, detail."""
        return self.table("index")

    @property
    def labels(self) -> pa.Table:
        """The teacher's judgements: group, source, id, replicate, A1.., overall, recommendation, split, ..."""
        return self.table("labels")

    @property
    def scores(self) -> pa.Table:
        """The students' scores: source, shard, row, id, n_tokens, A1.., overall, reason_unscored, ..."""
        return self.table("scores")

    @property
    def cells(self) -> pa.Table:
        """The reliability map: group, source, slot, n, mae, rho, ceiling, masked, why, ..."""
        return self.table("cells")

    @property
    def selection(self) -> pa.Table:
        """The decision on every valid record: source, shard, row, id, n_tokens, quality, kept, reason."""
        return self.table("selection")

    @property
    def kept(self) -> pa.Table:
        """The records that were kept, as in `selection`."""
        return self._query("SELECT * FROM selection WHERE kept", {}, self._only("selection"))

    @property
    def thresholds(self) -> dict[str, Any]:
        """The thresholds, and tokens in and kept of every scope and source.

        Raises:
            RunError: Nothing has been selected yet.
        """
        try:
            found: dict[str, Any] = read_json(self.folder.thresholds)
        except FileNotFoundError:
            raise RunError(f"{self.folder.thresholds}: nothing is selected yet", "Run: mira select CONFIG") from None
        return found

    @property
    def groups(self) -> list[Group]:
        """The groups and their sources."""
        return load_groups(self.folder)

    def rubric(self, group: str) -> Rubric:
        """Return a group's rubric."""
        return Rubric.load(self.folder.rubric(group), group)

    def explain(self, id: str, source: str = "") -> Explanation:
        """Explain why a record was kept or dropped: slots, masks, quality, threshold, ranks, and what would change it.

        Args:
            id: The record's id.
            source: Its source, if several sources have the id.

        Raises:
            ConfigError: The run's settings are not known.
            InputError: No valid record has this id, or several have.
            RunError: Nothing has been selected yet.
        """
        return explain(self.config, self.folder, id, source)

    def _only(self, name: str) -> dict[str, list[Path]]:
        """Return one table's files."""
        files = self._files()
        if name not in files:
            raise InputError(
                f"{self.folder.path}: table '{name}' does not exist yet",
                f"Tables so far: {', '.join(files) or 'none; run mira index first'}",
            )
        return {name: files[name]}

    def _files(self) -> dict[str, list[Path]]:
        path = self.folder.path
        found = {name: sorted((path / name).glob("*/*.parquet")) for name in _BY_SHARD}
        found["index"] = [p for p in found["index"] if p.name != "duplicates.parquet"]
        found["labels"] = sorted((path / "labels").glob("*.parquet"))
        found["cells"] = [self.folder.reliability] if self.folder.reliability.is_file() else []
        return {name: paths for name, paths in found.items() if paths}

    def _query(self, query: str, parameters: Mapping[str, Any], files: Mapping[str, list[Path]]) -> pa.Table:
        """Run a query over views of the tables as they are now."""
        self._con = self._con or duckdb.connect(":memory:", config={"memory_limit": _MEMORY})
        for name, paths in files.items():
            listed = ", ".join("'" + glob.escape(str(p)).replace("'", "''") + "'" for p in paths)
            read = f"read_parquet([{listed}], filename = true, union_by_name = true)"
            columns = "* EXCLUDE (filename)"
            if name in _BY_SHARD:
                columns = f"parse_path(filename)[-2] AS source, parse_filename(filename, true) AS shard, {columns}"
            elif name == "labels":
                columns = f'parse_filename(filename, true) AS "group", {columns}'
            self._con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {columns} FROM {read}")
        found = self._con.sql(query, params=dict(parameters))
        return pa.table({}) if found is None else found.to_arrow_table()  # None for a statement without a result


def open_run(path: Path | str) -> Run:
    """Open a run for reading.

    Args:
        path: The settings file or the run folder. For a run folder, the settings are read from a mira.yaml beside it
            that names this folder, if any.

    Raises:
        ConfigError: The settings file is wrong.
        RunError: The run folder does not exist.
    """
    path = Path(path)
    if path.is_file():
        config: Config | None = load_config(path)
        assert config is not None
        folder = RunFolder(config.run)
    else:
        folder, config = RunFolder(path), None
        with suppress(ConfigError):
            beside = load_config(path.absolute().parent / _SETTINGS)
            config = beside if beside.run == path.absolute() else None
    if not folder.path.is_dir():
        raise RunError(f"{folder.path}: the run folder does not exist", "Run it first: mira.run('mira.yaml')")
    return Run(folder, config)
