"""An audit without a run: a file of scores, and the records that it is about."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mira.config.loading import config_from
from mira.corpus import build_index
from mira.corpus.files.find import find
from mira.errors import ConfigError, InputError
from mira.evaluation.audit.audit import audit
from mira.evaluation.audit.results import AuditResult
from mira.foreign.stage import join
from mira.progress import Log
from mira.run_folder.paths import RunFolder

__all__ = ["BareFiles", "audit_files"]

_NAME = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BareFiles:
    """What `mira audit` is given without a run.

    Attributes:
        scores: Parquet files with ids and scores.
        column: Column with the scores.
        input: Files with the records, or globs of them.
        id: Column of the files with the ids.
        id_field: Field of the records with the ids.
        text_field: Field of the records with the text.
        source_field: Field of the records with their source. Default: each file is a source, by its name.
        family: Family of the records; `text_field` is for text.
        better: "higher" or "lower"; of `scores` and `against`.
        against: Another column, or another Parquet file, to measure drift against.
        reference: Another column, or another Parquet file, that stands in for a teacher; higher is better.
    """

    scores: Sequence[str]
    column: str
    input: Sequence[str]
    id: str = "id"
    id_field: str = "id"
    text_field: str = "text"
    source_field: str = ""
    family: str = "text"
    better: str = "higher"
    against: str = ""
    reference: str = ""


def audit_files(given: BareFiles, by: Sequence[str], log: Log) -> AuditResult:
    """Audit the scores of a file. Everything between is written into a temporary folder, which is removed.

    Args:
        given: Files, columns and fields.
        by: Fields of the records: are their values judged differently?
        log: Where progress goes.

    Raises:
        ConfigError: Something needed is missing, or a column is.
        InputError: A file cannot be read.
    """
    if not given.column or not given.input:
        raise ConfigError(
            "audit: --scores needs --column and --input",
            "For example: mira audit --scores scores.parquet --column quality --input 'data/*.jsonl'",
        )
    name = _name(given.column)
    wanted: dict[str, Any] = {name: _score(given.scores, given.column, given)}
    others = {}
    for role, other in (("against", given.against), ("reference", given.reference)):
        if other:
            is_file = other.endswith((".parquet", ".pq")) or "/" in other
            column = given.column if is_file else other
            own = _name(PurePosixPath(other).stem if is_file else other)
            own = f"{own}_{role}" if own == name else own
            better = given.better if role == "against" else "higher"
            wanted[own] = _score([other] if is_file else given.scores, column, given) | {"better": better}
            others[role] = own
    with tempfile.TemporaryDirectory(prefix="mira-audit-") as folder:
        config = config_from({"run": folder, "sources": _sources(given), "scores": wanted}, name="mira audit")
        run = RunFolder(config.run)
        try:
            build_index(config, run, log)
        except InputError as error:
            raise InputError(
                error.message, "Name the fields with --text-field and --id-field, or the format with --family."
            ) from None
        join(config, run, log)
        return audit(
            config, run, log, names=[name], by=by, against=others.get("against", ""),
            reference=others.get("reference", ""), source_field=given.source_field,
        )  # fmt: skip


def _score(paths: Sequence[str], column: str, given: BareFiles) -> dict[str, Any]:
    return {"path": list(paths), "column": column, "id": given.id, "better": given.better}


def _name(column: str) -> str:
    """Return a column's name as that of a score."""
    name = _NAME.sub("_", column).strip("_") or "score"
    is_taken = name in ("row", "id", "source", "overall", "value", "quality", "reason")
    return f"score_{name}"[:64] if is_taken or not name[0].isalpha() or re.fullmatch(r"[Aa][0-9]+", name) else name[:64]


def _sources(given: BareFiles) -> list[dict[str, Any]]:
    fields = {"id": given.id_field, **({"text": given.text_field} if given.family == "text" else {})}
    fields = {ours: theirs for ours, theirs in fields.items() if ours != theirs}
    if given.source_field:
        return [{"name": "input", "path": list(given.input), "fields": fields, "family": given.family}]
    by_name: dict[str, list[str]] = {}
    for path in given.input:
        files = find(path).files
        if not files:
            raise InputError(f"audit: --input {path} matches no file", "Quote globs, and check the path.")
        for file in files:
            stem = re.sub(r"[^A-Za-z0-9._+-]", "_", PurePosixPath(file).name.split(".")[0]).lstrip("._+-")
            by_name.setdefault(stem or "input", []).append(file)
    return [
        {"name": name, "path": paths, "fields": fields, "family": given.family}
        for name, paths in sorted(by_name.items())
    ]
