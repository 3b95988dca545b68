"""One stream of records over many shards, one sidecar a shard."""

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mira.config.settings import WindowSettings
from mira.corpus import Part, Record, Shard
from mira.corpus.sidecar_writer import SidecarWriter
from mira.errors import RunError
from mira.family import FamilyName
from mira.judging.judge import Judge, JudgeTask
from mira.judging.windows import WindowedJudge
from mira.rubric.judgement import Judgement
from mira.scoring import score_shards


class Lengths(Judge):
    """A judge that scores a record's length."""

    identity = "lengths"
    n_slots = 1

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        for task in tasks:
            score = float(len(task.record.text))
            yield Judgement(
                id=task.record.id, source=task.record.source, scores=(score,), overall=score, judge="lengths"
            )


def test_finished_sidecars_are_let_go_and_shards_of_two_sources_may_share_a_name(tmp_path: Path) -> None:
    names = [f"part-{i}" for i in range(20)]
    shards = [Shard(source, f"{n}.jsonl", n, n, None, None) for source in ("a", "b") for n in names]

    def read(shard: Shard) -> Iterator[Record]:
        for row in range(3):
            yield Record(f"{shard.name}/{row}", shard.source, FamilyName.TEXT, (Part("", "x" * row + "y"),), row, 1)

    def sidecar(shard: Shard) -> Path:
        return tmp_path / shard.source / f"{shard.name}.parquet"

    results = score_shards(shards, Lengths(), read, sidecar, lambda shard: shard.name)
    held = []
    for _ in shards:
        assert next(results).rows == 3
        held.append(sum(isinstance(o, SidecarWriter) for o in gc.get_objects()))
    assert held[0] >= 1 and max(held) <= 3, "memory must not grow with the number of shards"
    for shard in shards:
        assert pq.read_table(sidecar(shard))["A1"].to_pylist() == [1.0, 2.0, 3.0]


def test_with_windows_a_sidecar_tells_their_number_and_each_slots_spread(tmp_path: Path) -> None:
    shard = Shard("s", "part.jsonl", "part", "part", None, None)
    texts = ["short", "a long text " * 60]
    records = [Record(f"{i}", "s", FamilyName.TEXT, (Part("", text),), row=i) for i, text in enumerate(texts)]
    for judge in (Lengths(), WindowedJudge(Lengths(), WindowSettings(tokens=64, overlap=0))):
        path = tmp_path / f"{judge.windowed}.parquet"
        list(score_shards([shard], judge, lambda _: iter(records), lambda _, path=path: path, lambda s: s.name))
    whole, cut = pq.read_table(tmp_path / "False.parquet"), pq.read_table(tmp_path / "True.parquet")
    assert cut.column_names == [*whole.column_names, "windows", "A1_spread"]
    assert cut["windows"].to_pylist()[0] == 1 and cut["windows"].to_pylist()[1] > 2
    assert cut["A1_spread"].to_pylist()[0] is None and cut["A1_spread"].to_pylist()[1] >= 0
    assert cut["A1"].to_pylist()[0] == whole["A1"].to_pylist()[0]


def test_a_shard_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    shards = [Shard("s", f"{name}.jsonl", name, name, None, None) for name in ("a", "b", "c")]
    failed: dict[str, str] = {}

    def read(shard: Shard) -> Iterator[Record]:
        for row in range(3):
            if shard.name == "b" and row == 2:
                raise RunError("b has changed")
            yield Record(f"{shard.name}/{row}", "s", FamilyName.TEXT, (Part("", "x"),), row, 1)

    def note(shard: Shard, error: Exception) -> None:
        failed[shard.name] = str(error)

    results = score_shards(
        shards, Lengths(), read, lambda s: tmp_path / f"{s.name}.parquet", lambda s: s.name, failed=note
    )
    assert [result.shard for result in results] == ["a", "c"]
    assert failed == {"b": "b has changed"}
    assert not (tmp_path / "b.parquet").exists()
    with pytest.raises(RunError, match="b has changed"):
        list(score_shards(shards, Lengths(), read, lambda s: tmp_path / s.name, lambda s: s.name))
