from dataclasses import dataclass, field

import pytest

from mira.errors import RunError
from mira.run_folder.results import read_result, write_result


@dataclass(frozen=True, slots=True)
class Inner:
    share: float | None


@dataclass(frozen=True, slots=True)
class Outer:
    n: int
    inner: dict[str, Inner]
    listed: list[Inner] = field(default_factory=list)


def test_a_result_reads_as_it_was_written(tmp_path):
    result = Outer(3, {"b": Inner(0.5), "a": Inner(None)}, [Inner(1.0)])
    path = tmp_path / "result.json"
    write_result(path, result)
    written = '{"n": 3, "inner": {"b": {"share": 0.5}, "a": {"share": null}}, "listed": [{"share": 1.0}]}'
    assert "".join(path.read_text().split()) == written.replace(" ", "")
    assert read_result(Outer, path) == result


def test_files_of_other_versions_are_read_where_they_fit(tmp_path):
    path = tmp_path / "result.json"
    path.write_text('{"n": 1, "inner": {}, "later": true}')
    assert read_result(Outer, path) == Outer(1, {})


@pytest.mark.parametrize(("text", "problem"), [("{", "this is not JSON"), ('{"n": 1, "inner": {"a": 2}}', "inner.a: ")])
def test_a_file_that_does_not_fit_is_named(tmp_path, text, problem):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(RunError, match=f"result.json: {problem}"):
        read_result(Outer, path)
