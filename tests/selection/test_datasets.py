"""A Hugging Face data set of several Arrow shards, selected in threads, stays one data set."""

import json
from pathlib import Path

import pyarrow as pa

from mira.config.loading import load_config
from mira.pipeline.runner import run_stages

SHARDS = [f"data-{i:05d}-of-00003.arrow" for i in range(3)]
ROWS = 30


def _write(folder: Path) -> None:
    folder.mkdir()
    for i, name in enumerate(SHARDS):
        texts = [f"record {i * ROWS + row} " * 9 for row in range(ROWS)]
        ids = [f"r{i * ROWS + row}" for row in range(ROWS)]
        table = pa.table({"id": ids, "text": texts})
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    features = {name: {"dtype": "string", "_type": "Value"} for name in ("id", "text")}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    files = [{"filename": name} for name in SHARDS]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train", "_fingerprint": "f"}))


def test_three_arrow_shards_in_four_threads_stay_one_dataset(tmp_path: Path) -> None:
    _write(tmp_path / "ds")
    (tmp_path / "mira.yaml").write_text(
        "run: run\nsources: [{name: s, path: ds}]\nscore: {workers: 4}\n"
        "select: {method: random, scope: source, budget: 50%}\n"
    )
    config = load_config(tmp_path / "mira.yaml")
    run_stages(config)
    selected = tmp_path / "run" / "selected" / "s"
    first = {path.name: path.read_bytes() for path in selected.iterdir()}
    for _ in range(10):
        run_stages(config, ["select"], force=True)
        assert {path.name: path.read_bytes() for path in selected.iterdir()} == first
    assert set(first) == {*SHARDS, "state.json", "dataset_info.json"}
    # What `datasets.load_from_disk` reads: the files that the state names, with the columns that the info names.
    state = json.loads(first["state.json"])
    assert [file["filename"] for file in state["_data_files"]] == SHARDS
    whole = pa.concat_tables([pa.ipc.open_stream(first[name]).read_all() for name in SHARDS])
    assert whole.column_names == list(json.loads(first["dataset_info.json"])["features"]) == ["id", "text", "mira"]
    ids = whole["id"].to_pylist()
    assert len(set(ids)) == len(ids) and 0.4 < len(ids) / (3 * ROWS) < 0.6
    assert whole["text"].to_pylist() == [f"record {id[1:]} " * 9 for id in ids]
