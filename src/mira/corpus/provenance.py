"""Checks that the field added to kept records is free, before anything is spent."""

from itertools import islice

from mira.config.settings import CorpusSettings, SelectSettings, SourceSettings
from mira.corpus.files.lines import Damaged
from mira.corpus.files.tables import schema
from mira.corpus.parse import BadLine, Parser, to_object
from mira.corpus.shards import Shard, format_of, shards
from mira.errors import ConfigError

__all__ = ["check_provenance"]

_LOOKED_AT = 100  # rows of a source


def check_provenance(corpus: CorpusSettings, select: SelectSettings) -> None:
    """Check `select.provenance_field` against the columns of each source's first file, or its first lines.

    A record further on may have the field still; writing it is then refused.

    Raises:
        ConfigError: A record has a field of that name.
        MiraError: A source cannot be found.
    """
    field = select.provenance_field
    if not select.write_selected:
        return
    if not field:
        raise ConfigError("select.provenance_field is empty", "Choose a name, e.g. select: {provenance_field: mira}.")
    for source, found in shards(corpus).items():
        where = _holder(corpus.source(source), found[0], field, corpus.max_record_bytes) if found else ""
        if where:
            raise ConfigError(
                f"select.provenance_field: the records of source '{source}' have a field '{field}' already ({where})",
                "Choose a name that no record has, e.g. select: {provenance_field: mira_selection}.",
            )


def _holder(source: SourceSettings, shard: Shard, field: str, longest: int) -> str:
    """Return where a field of that name is; "" where it is not seen."""
    kind = format_of(shard.path).kind
    if kind != "jsonl":
        try:
            return shard.path if field in schema(shard.path, kind).names else ""
        except Damaged:
            return ""
    for row, raw in islice(Parser(source, longest).raw(shard), _LOOKED_AT):
        try:
            if field in to_object(raw, longest):
                return shard.where(row)
        except BadLine:
            continue
    return ""
