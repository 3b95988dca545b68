"""Workers between two runs of the pipeline: what they wrote is neither damage nor done again."""

import orjson
import pytest

from mira.config.settings import Config
from mira.errors import RunError
from mira.pipeline.runner import run_extra, run_stages, stage_states
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.selection.ranks.steps import value_parts, write_parts
from mira.selection.stage import selection_inputs
from mira.stage import Share, do_parts
from support.selection_workers import outputs


def project(folder, budget, run="run"):
    source = folder / "source"
    source.mkdir(exist_ok=True)
    for n in range(3):
        rows = [{"id": f"r{n}.{i}", "text": f"Text {n} number {i}. " * (1 + i % 5)} for i in range(40)]
        (source / f"{n}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    select = {"method": "random", "scope": "source", "budget": budget}
    return Config.model_validate(
        {"run": folder / run, "sources": [{"name": "a", "path": str(source)}], "select": select}
    )


def workers(config):
    inputs = selection_inputs(config, RunFolder(config.run), Quiet())
    for parts in (value_parts, write_parts):
        for index in range(2):
            assert all(item.error is None for item in do_parts(parts(inputs, Share(index, 2))))


def times(config):
    return {
        path: path.stat().st_mtime_ns for name in ("selection", "selected") for path in config.run.rglob(f"{name}/*/*")
    }


def test_a_run_takes_what_workers_wrote(tmp_path):
    first, second = project(tmp_path, "40%"), project(tmp_path, "20%")
    run_stages(first)
    workers(second)
    with pytest.raises(RunError, match="changed or removed"):
        run_extra(first, lambda *_: None, Quiet())
    before = times(second)
    assert run_stages(second) == ["select", "report"]
    assert times(second) == before and len(before) == 6
    assert [state.reasons for state in stage_states(second)] == [()] * 3
    fresh = project(tmp_path, "20%", "fresh")
    run_stages(fresh)
    assert outputs(RunFolder(second.run)) == outputs(RunFolder(fresh.run))
    path = sorted((second.run / "selected" / "a").iterdir())[0]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Text", b"text"))
    assert run_stages(second) == ["select"]
    assert path.read_bytes() == whole
    assert run_stages(second, force=True) == ["index", "select", "report"]
    workers(first)
    assert run_stages(first) == ["select", "report"]
    again = project(tmp_path, "40%", "again")
    run_stages(again)
    assert outputs(RunFolder(first.run)) == outputs(RunFolder(again.run))
