"""Sources and families: find, read, render, count tokens, shard, sample, write."""

from mira.corpus.index import records_key, source_key, totals
from mira.corpus.peek import check_fields, peek
from mira.corpus.read import fetch, field_values, pick, read, sample_ids
from mira.corpus.record import Part, Record, Rejected, Rejection
from mira.corpus.shards import Shard, described, find_shards, shards
from mira.corpus.stage import build_index
from mira.corpus.write import copy_kept, count_kept, describe_kept
from mira.family import FamilyName
from mira.tokens import Tokenizer, tokenizer

__all__ = [
    "FamilyName",
    "Part",
    "Record",
    "Rejected",
    "Rejection",
    "Shard",
    "Tokenizer",
    "build_index",
    "check_fields",
    "copy_kept",
    "count_kept",
    "describe_kept",
    "described",
    "fetch",
    "field_values",
    "find_shards",
    "peek",
    "pick",
    "read",
    "records_key",
    "sample_ids",
    "shards",
    "source_key",
    "tokenizer",
    "totals",
]
