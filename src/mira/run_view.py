"""A run looked at from Python: its tables, its documents, and why one record was kept."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.corpus import database
from mira.errors import ConfigError, InputError, RunError
from mira.grouping.groups import Group, load_groups
from mira.html import block, paragraph, table
from mira.pipeline.manifest import read_manifest
from mira.progress import Quiet
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json
from mira.run_folder.lock import holder_of
from mira.run_folder.paths import RunFolder
from mira.run_folder.stored import run_path
from mira.run_folder.working_copy import refresh
from mira.selection.explain.explain import explain, explain_line
from mira.selection.explain.results import Explanation, RejectedLine, TextMatches
from mira.selection.explain.text import find_text

__all__ = ["Run", "open_run"]

_SETTINGS = "mira.yaml"
_BY_SHARD = ("index", "scores", "selection", "flags", "cascade")
_STAGE_OF = {"index": "index", "labels": "label", "scores": "score", "cells": "reliability", "selection": "select",
             "flags": "flag"}  # fmt: skip
_MEMORY = "1GB"


class Run:
    """A run folder, opened for reading. Nothing is written into it, and opening it loads no table.

    `relation` and `sql` work in bounded memory, however large the run. `table` and the properties `index`, `labels`,
    `scores`, `cells`, `selection` and `kept` load a whole table as a `pyarrow.Table`. A row of `index` is a line of a
    source, a row of `scores` or `selection` a valid record. No table holds the records' text.

    Tables are read as they are now, also while a run goes on: see `unfinished`.

    Attributes:
        folder: Paths of the run folder.
    """

    def __init__(self, folder: RunFolder, config: Config | None = None) -> None:
        """Open a run folder. `open_run` also takes the path of a settings file."""
        self.folder = folder
        self._config = config
        self._con: duckdb.DuckDBPyConnection | None = None

    def __repr__(self) -> str:
        unfinished = f", unfinished={list(self.unfinished)}" if self.unfinished else ""
        return f"Run({str(self.folder.path)!r}, tables={list(self.tables)}{unfinished})"

    def _repr_html_(self) -> str:
        """Return what has run and what was kept, for notebooks. Only small files are read."""
        parts = [paragraph(f"Run {self.folder.path}", strong=True)]
        if holder := holder_of(self.folder.lock):
            parts.append(paragraph(f"In use by {holder}: tables may be unfinished."))
        done = list(read_manifest(self.folder)["stages"])
        parts.append(paragraph(f"Finished stages: {', '.join(done) or 'none'}. Tables: {', '.join(self.tables)}."))
        if self.unfinished:
            parts.append(paragraph(f"Unfinished tables: {', '.join(self.unfinished)}. `mira run` finishes them."))
        if self.folder.thresholds.is_file():
            chosen = self.thresholds
            parts.append(paragraph(f"Kept by {chosen['method']}, scope {chosen['scope']}:"))
            names = ("records_in", "kept", "tokens_in", "tokens_kept")
            rows = [
                (source, *(told[n] for n in names), f"{told['tokens_kept'] / max(told['tokens_in'], 1):.0%}")
                for source, told in chosen["sources"].items()
            ]
            parts.append(table(("source", "records", "kept", "tokens", "tokens kept", "share"), rows))
        return block(*parts)

    @property
    def config(self) -> Config:
        """The settings.

        Raises:
            ConfigError: The run was opened by its folder alone, and no mira.yaml beside it names this folder.
        """
        if self._config is None:
            raise ConfigError(
                f"{self.folder.path}: the settings of this run are not known",
                "Name them: mira.open('run', settings='mira.yaml')",
            )
        return self._config

    @property
    def tables(self) -> Sequence[str]:
        """Names of the tables that exist so far, for `table` and `sql`."""
        return tuple(self._files())

    @property
    def unfinished(self) -> Sequence[str]:
        """Names of the tables whose stage has begun and not ended: it was interrupted, or is running now.

        Raises:
            RunError: The run folder's manifest is damaged, or is of another mira.
        """
        done = read_manifest(self.folder)["stages"]
        return tuple(name for name in self.tables if name in _STAGE_OF and _STAGE_OF[name] not in done)

    def table(self, name: str, source: str = "") -> pa.Table:
        """Load a table, all of it or that of one source.

        Args:
            name: index, labels, scores, cells, selection, flags or cascade.
            source: Name of a source; all by default.

        Raises:
            InputError: The run has no such table yet.
        """
        return self.relation(name, source).to_arrow_table()

    def relation(self, name: str, source: str = "") -> duckdb.DuckDBPyRelation:
        """Return a table as a DuckDB relation: nothing is read until its rows are asked for.

        `run.relation("scores").filter("A1 > 8").limit(5)` reads what it needs. `.df()` gives pandas,
        `.to_arrow_table()` pyarrow, and `.to_arrow_reader()` one batch after the other.

        Args:
            name: index, labels, scores, cells, selection, flags or cascade.
            source: Name of a source; all by default.

        Raises:
            InputError: The run has no such table yet.
        """
        found = self._connection().sql(_select(name, self._only(name)))
        return found.filter(duckdb.ColumnExpression("source") == duckdb.ConstantExpression(source)) if source else found

    def sql(self, query: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a DuckDB query over the tables, e.g. "SELECT source, avg(quality) FROM selection GROUP BY source".

        Args:
            query: Names of tables are those of `tables`. Memory is bounded; the result is a table in memory.
            parameters: Values of `$name` in the query.

        Raises:
            duckdb.Error: The query is wrong.
        """
        con = self._connection()
        for name, paths in self._files().items():
            con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {_select(name, paths)}")
        found = con.sql(query, params=dict(parameters or {}))
        return pa.table({}) if found is None else found.to_arrow_table()  # None for a statement without a result

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
        return self.relation("selection").filter("kept").to_arrow_table()

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
            RunError: Nothing has been selected yet, or a process works in the run.
        """
        return explain(self._at_rest(), self.folder, id, source)

    def explain_line(self, line: str | int, source: str = "") -> Explanation | RejectedLine:
        """Explain what became of a line of a source: the record that it is, or why it was rejected.

        Args:
            line: Its number, from 1, after the file if there are several: "part_3.jsonl:17".
            source: Its source, if the line could be of several.

        Raises:
            ConfigError: The run's settings are not known.
            InputError: There is no such line, or it could be of several files.
            RunError: The source has changed since it was indexed, nothing is selected yet, or a process works here.
        """
        return explain_line(self._at_rest(), self.folder, line, source)

    def find(self, text: str, source: str = "", limit: int = 20) -> TextMatches:
        """Find records, and rejected lines, by their text. The sources are read until `limit` is reached.

        Args:
            text: What to look for. Case and white space do not matter; accents do.
            source: Search only this source.
            limit: End after so many matches.

        Raises:
            ConfigError: The run's settings are not known.
            InputError: The text is blank, or there is no such source.
            RunError: A source has changed since it was indexed, or a process works in the run.
        """
        return find_text(self._at_rest().corpus, self.folder, text, Quiet(), source=source, limit=limit)

    def _at_rest(self) -> Config:
        """Return the settings; refuse while a process works in the folder, since it changes what would be read."""
        if holder := holder_of(self.folder.lock):
            raise RunError(
                f"{self.folder.path}: another mira ({holder}) is working in this run folder", "Wait for it, or stop it."
            )
        return self.config

    def _only(self, name: str) -> list[Path]:
        """Return one table's files."""
        files = self._files()
        if name not in files:
            raise InputError(
                f"{self.folder.path}: table '{name}' does not exist yet",
                f"Tables so far: {', '.join(files) or 'none; run mira index first'}",
            )
        return files[name]

    def _files(self) -> dict[str, list[Path]]:
        path = self.folder.path
        found = {name: sorted((path / name).glob("*/*.parquet")) for name in _BY_SHARD}
        found["index"] = [p for p in found["index"] if p.name != "duplicates.parquet"]
        found["labels"] = sorted((path / "labels").glob("*.parquet"))
        found["cells"] = [self.folder.reliability] if self.folder.reliability.is_file() else []
        return {name: paths for name, paths in found.items() if paths}

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._con is None:
            spill = Path(tempfile.gettempdir()) / f"mira-duckdb-{os.getpid()}"  # made only if memory is short
            self._con = duckdb.connect(":memory:", config={"memory_limit": _MEMORY, "temp_directory": str(spill)})
        return self._con


def _select(name: str, paths: Sequence[Path]) -> str:
    """Return the query that reads a table's files."""
    columns = "* EXCLUDE (filename)"
    if name in _BY_SHARD:
        columns = f"parse_path(filename)[-2] AS source, parse_filename(filename, true) AS shard, {columns}"
    elif name == "labels":
        columns = f'parse_filename(filename, true) AS "group", {columns}'
    return f"SELECT {columns} FROM read_parquet([{database.listed(paths)}], filename = true, union_by_name = true)"


def open_run(path: Path | str = "mira.yaml", *, settings: Path | str | Config | None = None) -> Run:
    """Open a run for reading. No table is loaded.

    Args:
        path: The settings file, a folder with a mira.yaml, or the run folder.
        settings: The settings of a run folder that was moved: they are taken as if they named this folder. By default
            they are read from a mira.yaml beside the folder that names it, if any.

    Raises:
        ConfigError: The settings file is wrong.
        RunError: The run folder does not exist, is not one, or was made by a mira that uses another format.
    """
    path = run_path(path)
    refresh(path)
    if path.is_dir() and (path / _SETTINGS).is_file() and not (path / "manifest.json").exists():
        path = path / _SETTINGS
    if path.is_file():
        config: Config | None = load_config(path)
        assert config is not None
        folder = RunFolder(config.run)
    else:
        folder, config = RunFolder(path), None
    if not folder.path.is_dir():
        raise RunError(f"{folder.path}: the run folder does not exist", "Run it first: mira.run('mira.yaml')")
    read_manifest(folder)
    if not folder.manifest.exists() and any(folder.path.iterdir()) and not (folder.path / "index").is_dir():
        raise RunError(f"{folder.path}: this is not a run folder", "Name a run folder, or the settings file of a run.")
    if settings is not None:
        given = settings if isinstance(settings, Config) else load_config(settings)
        config = given.model_copy(update={"run": folder.path.absolute()})
    return Run(folder, config or _settings_beside(folder.path.absolute()))


def _settings_beside(folder: Path) -> Config | None:
    """Return the settings in a mira.yaml beside a run folder, if they are of this run."""
    if not (folder.parent / _SETTINGS).is_file():
        return None
    try:
        beside = load_config(folder.parent / _SETTINGS)
    except ConfigError:
        return None
    return beside if beside.run == folder else None
