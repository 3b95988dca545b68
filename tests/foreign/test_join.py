"""Foreign scores: every odd value is missing with its reason, counts add up, and only what changed is redone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.loading import config_from
from mira.config.settings import Config
from mira.corpus import build_index
from mira.errors import ConfigError, InputError
from mira.foreign.sidecars import foreign_values
from mira.foreign.stage import join
from mira.foreign.values import check_objects, ids_of, scaled
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder


def project(folder: Path, scores: dict[str, Any], shard_bytes: int = 1024, **settings: Any) -> Config:
    """Two sources; `docs` is cut into several shards, and record 3 of each has the same id."""
    for source, n in (("docs", 40), ("code", 5)):
        rows = [
            {"id": "both" if k == 3 else f"{source}-{k}", "text": "x " * 30, "meta": {"stars": k}} for k in range(n)
        ]
        if source == "code":
            rows[1]["meta"] = {"stars": "many"}
            rows[2]["meta"] = {"stars": True}
            rows[4]["meta"] = {}
        (folder / f"{source}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    sources = [{"name": s, "path": str(folder / f"{s}.jsonl")} for s in ("docs", "code")]
    config = config_from(
        {
            "run": str(folder / "run"), "tokenizer": "cl100k_base", "shard_bytes": shard_bytes, "sources": sources,
            "score": {"workers": 1}, "scores": scores, **settings,
        }
    )  # fmt: skip
    build_index(config, RunFolder(config.run), Quiet())
    return config


def write(folder: Path, columns: dict[str, Any]) -> str:
    path = folder / "edu.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


def told(config: Config) -> dict[str, Any]:
    return join(config, RunFolder(config.run), Quiet())


def sidecars(config: Config, name: str) -> dict[str, bytes]:
    folder = config.run / "foreign" / name
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_odd_row_is_counted_and_told(tmp_path: Path) -> None:
    ids = [f"docs-{k}" for k in range(40)]
    values = [float(k % 6) for k in range(40)]
    values[4], values[5], values[6] = math.nan, math.inf, 7.5
    given: list[float | None] = [*values]
    given[7] = None
    ids[3] = "both"
    path = write(tmp_path, {"id": [*ids[:-1], "docs-0", "nobody", None, ""], "edu": [*given[:-1], 0.0, 1.0, 1.0, 1.0]})
    config = project(tmp_path, {"edu": {"path": path, "range": [0, 5]}})
    found = told(config)
    edu = found["scores"]["edu"]
    assert (edu["records"], edu["scored"]) == (45, 36)
    assert edu["missing"] == {"no_row": 5, "not_finite": 2, "null": 1, "out_of_range": 1}
    assert edu["sources"]["code"]["missing"] == {"no_row": 4}  # and "both", whose id has a score
    files = edu["files"]
    assert files == {
        "rows": 43, "without_id": 2, "ids": 40, "repeated": 1, "conflicting": 0, "used": 39, "unused": 1, "shared": 1,
    }  # fmt: skip
    assert found["shards"] > 3  # the source was cut
    run = RunFolder(config.run)
    values_now = foreign_values(run, "edu", "docs", pa.array(["docs-1", "docs-4", "docs-39", "both"]))
    np.testing.assert_array_equal(values_now, [1.0, np.nan, np.nan, 3.0])


def test_sharding_and_the_order_of_rows_do_not_matter(tmp_path: Path) -> None:
    found = []
    rows = [(f"docs-{k}", float(k)) for k in range(40)]
    for name, order, size in (("a", rows, 1024), ("b", rows[::-1], 10**9)):
        folder = tmp_path / name
        folder.mkdir()
        path = write(folder, {"id": [r[0] for r in order], "edu": [r[1] for r in order]})
        config = project(folder, {"edu": {"path": path}}, size)
        assert told(config)["scores"]["edu"]["scored"] == 39
        found.append(foreign_values(RunFolder(config.run), "edu", "docs", pa.array([r[0] for r in rows])))
    np.testing.assert_array_equal(*found)


def test_ids_that_disagree_are_refused_or_missing(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": ["docs-1", "docs-1", "docs-2"], "edu": [1.0, 2.0, 3.0]})
    config = project(tmp_path, {"edu": {"path": path}})
    with pytest.raises(InputError, match=r"1 ids have different scores in the files: docs-1 has 1 and 2"):
        told(config)
    assert not list((config.run / "foreign" / "edu").glob(".given*"))
    lenient = project(tmp_path, {"edu": {"path": path, "conflicts": "missing"}})
    edu = told(lenient)["scores"]["edu"]
    assert edu["missing"] == {"conflicting": 1, "no_row": 43}
    assert edu["files"]["conflicting"] == 1


def test_a_column_of_sources_tells_ids_apart(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": ["both", "both"], "src": ["docs", "code"], "edu": [1.0, 2.0]})
    config = project(tmp_path, {"edu": {"path": path, "source_column": "src"}})
    edu = told(config)["scores"]["edu"]
    assert edu["scored"] == 2
    assert edu["files"]["shared"] == 0
    run, both = RunFolder(config.run), pa.array(["both"])
    assert [foreign_values(run, "edu", s, both)[0] for s in ("docs", "code")] == [1.0, 2.0]


def test_a_field_of_the_records(tmp_path: Path) -> None:
    config = project(tmp_path, {"stars": {"field": "meta.stars", "range": [0, 20], "sources": ["code"]}})
    stars = told(config)["scores"]["stars"]
    assert stars["sources"] == {"code": {"records": 5, "scored": 3, "missing": {"not_a_number": 1, "null": 1}}}
    values = foreign_values(RunFolder(config.run), "stars", "code", pa.array(["code-0", "code-2", "both"]))
    np.testing.assert_array_equal(values, [0.0, 1.0, 3.0])  # true counts as 1


def test_only_what_changed_is_joined_again(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": ["docs-1"], "edu": [1.0]})
    scores = {"edu": {"path": path}, "stars": {"field": "meta.stars"}}
    config = project(tmp_path, scores)
    every = told(config)["shards"]
    before = sidecars(config, "edu")
    assert told(config)["written"] == 0
    other = project(tmp_path, scores | {"edu": {"path": path, "better": "lower"}})
    assert told(other)["written"] == 0  # the sidecars hold what was given
    write(tmp_path, {"id": ["docs-1"], "edu": [2.0]})
    assert told(config)["written"] == every // 2
    assert sidecars(config, "edu") != before
    write(tmp_path, {"id": ["docs-1"], "edu": [1.0]})
    told(config)
    assert sidecars(config, "edu") == before
    gone = project(tmp_path, {"stars": {"field": "meta.stars"}})
    told(gone)
    assert not (config.run / "foreign" / "edu").exists()


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"id": ["a"], "edu": ["good"]}, {}, "column 'edu' holds string, not numbers"),
        ({"id": ["a"], "score": [1.0]}, {}, "there is no column 'edu'"),
        ({"uid": ["a"], "edu": [1.0]}, {}, "there is no column 'id'; did you mean uid?"),
        ({"id": [1.5], "edu": [1.0]}, {}, "neither text nor whole numbers"),
    ],
)
def test_files_of_another_form_are_refused(
    tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    config = project(tmp_path, {"edu": {"path": write(tmp_path, columns), **settings}})
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        told(config)


def test_a_file_that_is_damaged_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edu.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    config = project(tmp_path, {"edu": {"path": str(path)}})
    with pytest.raises(InputError, match=r"scores\.edu"):
        told(config)
    path.unlink()
    with pytest.raises(InputError, match=r"scores\.edu: path .* matches no file"):
        told(config)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"A3": {"field": "x"}}, "a name of mira's own"),
        ({"edu": {}}, "give path"),
        ({"edu": {"field": "x", "path": "y.parquet"}}, "one of the two"),
        ({"edu": {"field": "x", "range": [5, 0]}}, "the lower one first"),
        ({"edu": {"field": "x", "slot": "tested"}}, "needs range"),
        ({"edu": {"field": "x", "sources": ["dosc"]}}, "no source 'dosc'"),
        ({"edu": {"field": "x"}, "EDU": {"field": "y"}}, "only in case"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, scores: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        project(tmp_path, scores)


def test_method_column_needs_a_score_that_is_known(tmp_path: Path) -> None:
    scores = {"edu": {"field": "meta.stars"}}
    with pytest.raises(ConfigError, match="column needs select"):
        project(tmp_path, scores, select={"method": "column"})
    with pytest.raises(ConfigError, match="no score 'edv'"):
        project(tmp_path, scores, select={"method": "column", "column": {"score": "edv"}})


def test_ids_become_text_as_those_of_records_do() -> None:
    assert ids_of(pa.array([1, 2**62])).to_pylist() == ["1", str(2**62)]
    assert ids_of(pa.array([1.0, None])).to_pylist() == ["1", None]
    assert ids_of(pa.array(["x", ""]).dictionary_encode()).to_pylist() == ["x", None]
    assert ids_of(pa.array([2.0**60])) is None
    assert ids_of(pa.array([[1]])) is None


def test_values_of_json_and_their_scale() -> None:
    config = Config.model_validate(
        {"sources": [{"name": "s", "path": "x"}], "scores": {"e": {"field": "x", "range": [0, 5]}}}
    )
    values, codes = check_objects([1, "2", None, 10**400, True, {}, float("nan"), -1], config.scores["e"])
    assert codes.tolist() == [0, 5, 2, 3, 0, 5, 3, 4]
    np.testing.assert_array_equal(values, [1, *[np.nan] * 3, 1, *[np.nan] * 3])
    np.testing.assert_allclose(scaled(np.array([0.0, 4.0]), 0, 5, "higher"), [0, 8])
    np.testing.assert_allclose(scaled(np.array([0.0, 4.0]), 0, 5, "lower"), [10, 2])
