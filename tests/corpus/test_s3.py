"""Sources in a bucket: a real S3 client (extra [s3]) and, over HTTP, a server that speaks S3 (package moto[server])."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mira.config.settings import Config
from mira.corpus import build_index, shards
from mira.errors import ConfigError, InputError, MiraError
from mira.pipeline.runner import run_stages
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder

# Warnings of the client's and the server's own libraries are not ours.
pytestmark = pytest.mark.filterwarnings("default")
ROWS = [{"id": f"r{i}", "text": f"Text number {i}. " * (1 + i % 5)} for i in range(120)]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server with a bucket of JSONL and Parquet files, the same files below tmp_path/local, and the server."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    urlopen(Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "hush"}
    for name, value in (given | {"DEFAULT_REGION": "us-east-1", "MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    local = tmp_path / "local"
    (local / "docs" / "deep").mkdir(parents=True)
    (local / "tables").mkdir()
    lines = [orjson.dumps(row) + b"\n" for row in ROWS]
    (local / "docs" / "a.jsonl.zst").write_bytes(zstandard.compress(b"".join(lines[:50])))
    (local / "docs" / "deep" / "b.jsonl").write_bytes(b"".join(lines[50:]))
    pq.write_table(pa.Table.from_pylist(ROWS), local / "tables" / "t.parquet")
    fs = s3fs.S3FileSystem()
    fs.mkdir("corpus")
    fs.put(str(local), "corpus/in", recursive=True)
    fs.invalidate_cache()
    yield server
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def _config(run: Path, top: str) -> Config:
    sources = [
        {"name": "docs", "path": f"{top}/docs/**/*.jsonl*"},
        {"name": "tables", "path": f"{top}/tables"},
    ]
    select = {"method": "random", "scope": "source", "budget": "40%"}
    return Config.model_validate({"run": run, "shard_bytes": 1024, "sources": sources, "select": select})


def _content(path: Path) -> Any:
    """Return a file's bytes; of a sidecar, rows and metadata without the fingerprint, which follows from an ETag."""
    if path.parts[-3] != "selection":
        return path.read_bytes()
    metadata = pq.read_metadata(path).metadata
    of = {key: value for key, value in orjson.loads(metadata[b"mira.of"]).items() if key != "fingerprint"}
    return pq.read_table(path).to_pylist(), metadata[b"mira"], of


@pytest.mark.usefixtures("bucket")
def test_a_bucket_gives_what_the_same_files_give(tmp_path: Path) -> None:
    kept = []
    for name, top in (("far", "s3://corpus/in"), ("near", str(tmp_path / "local"))):
        config = _config(tmp_path / name, top)
        assert len(shards(config.corpus)["docs"]) > 2, "a plain file is sliced"
        run_stages(config)
        folders = ("selection", "selected")
        kept.append(
            {p.relative_to(tmp_path / name): _content(p) for f in folders for p in (tmp_path / name / f).rglob("*.*")}
        )
        kept[-1][Path("thresholds")] = RunFolder(tmp_path / name).thresholds.read_bytes()
    assert kept[0] == kept[1]
    assert len(kept[0]) > 6


def test_what_is_wrong_with_a_bucket_is_told(bucket: Any, tmp_path: Path) -> None:
    for path, message in (
        ("s3://nothing/*.jsonl", "there is no bucket 'nothing'"),
        ("s3://corpus/in/docs/*.parquet", "matches no file"),
    ):
        config = Config.model_validate({"run": tmp_path / "run", "sources": [{"name": "s", "path": path}]})
        with pytest.raises(InputError, match=message):
            shards(config.corpus)
    config = _config(tmp_path / "run", "s3://corpus/in")
    shards(config.corpus)
    bucket.stop()
    with pytest.raises(MiraError, match=r"s3://corpus/in/") as caught:
        build_index(config, RunFolder(tmp_path / "run"), Quiet())
    assert "hush" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_without_s3fs_the_extra_is_named(tmp_path: Path) -> None:
    config = Config.model_validate({"run": tmp_path / "run", "sources": [{"name": "s", "path": "s3://b/a.jsonl"}]})
    with pytest.raises(ConfigError, match=r"pip install 'mira-select\[s3\]'"):
        shards(config.corpus)
