"""Stage `index`: read every source once."""

from collections.abc import Mapping
from typing import Any

from mira.config.settings import Config
from mira.corpus.families import find_family
from mira.corpus.index import build_index
from mira.corpus.shards import shards
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.stage import Stage, Work, needs, reads
from mira.tokens import BUILT_IN

__all__ = ["STAGE"]


def _settings(config: Config) -> dict[str, Any]:
    sources = [
        s.model_dump(mode="json", exclude={"language", "path"}) | {"family": find_family(s.family).identity}
        for s in config.sources
    ]
    named = config.tokenizer if config.tokenizer in BUILT_IN else ""
    return {"sources": sources, "tokenizer": named, "max_record_bytes": config.max_record_bytes}


def _files(config: Config, _run: RunFolder) -> dict[str, str]:
    return {
        f"source {source}": hash_json([[s.name, s.fingerprint] for s in found])
        for source, found in shards(config.corpus).items()
    }


def _work(_config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    return Work(records=valid)


STAGE = Stage(
    name="index",
    version=3,
    run=build_index,
    needs=needs(),
    settings=_settings,
    reads=reads("sources", "tokenizer", "max_record_bytes"),
    outputs=lambda run: [run.path / "index"],
    resumed=lambda _config, run: [run.path / "index"],
    files=_files,
    work=_work,
)
