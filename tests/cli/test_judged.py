"""What `mira discover` and `mira label` say of a teacher behind a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mira.run_folder.files import read_json
from support.fault_server import FaultServer, completion
from support.tiny_world import GROUP, TinyWorld, reply_of

POINTS = "\n".join(f"[{i}] {name} <b>: {i}/10 — because" for i, name in enumerate(("Depth", "Clarity", "Safety"), 1))


class Teacher(FaultServer):
    """Answers at once, but the first request is refused for a moment, and nothing can be read in one reply."""

    def __init__(self) -> None:
        super().__init__(handler=self._reply)
        self.unreadable = False

    def _reply(self, body: dict[str, Any], _request: web.Request) -> web.Response | dict[str, Any]:
        self.bodies.append(body)
        if len(self.bodies) == 1:
            return web.Response(status=503, text="busy")
        if self.unreadable and len(self.bodies) == 2:
            return completion("A fine record.")
        return completion(reply_of((7.0, 5.0, 3.0)) if "[A1]" in body["messages"][-1]["content"] else POINTS)


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    with Teacher() as server:
        yield server


def _world(folder: Path, teacher: Teacher, **sections: Any) -> TinyWorld:
    world = TinyWorld(folder)
    endpoint = {"base_url": teacher.url, "model": "m", "price_in": 1, "price_out": 4}
    world.set(teacher={"endpoint": endpoint, "failure_budget": 0.2}, label={"sample": 5, "replicates": 0}, **sections)
    for stage in ("index", "group"):
        world.mira(stage)
    return world


def _row(said: str, name: str) -> list[str]:
    line = next(line for line in said.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # every column is in one table


def test_label_tells_what_it_asked_spent_and_left(tmp_path: Path, teacher: Teacher) -> None:
    teacher.unreadable = True
    world = _world(tmp_path, teacher)
    world.mira("discover")
    said = world.mira("label", "--max-cost", 3, "--max-requests", 50)
    row = _row(said, GROUP)
    told = read_json(world.run / "manifest.json")["stages"]["label"]["summary"]["groups"][GROUP]["requests"]
    assert row[2:6] == ["10", "1 HTTP 503", "0", "0"] and told["requests"] == 11
    assert row[6:8] == [f"{told['tokens_in']:,}", f"{told['tokens_out']:,}"] and told["tokens_in"] > 0
    assert row[8] == f"{told['cost']:.4f}" and told["cost"] == pytest.approx(
        (told["tokens_in"] + 4 * told["tokens_out"]) / 1e6, abs=1e-6
    )
    rows = [_row(said, source) for source in ("source_A", "source_B")]
    assert [r[2:5] for r in rows] == [["5", "31", "5"], ["5", "29", "5"]]
    assert sorted(r[5:] for r in rows) == [["0", ""], ["1", "1 unparsable"]]
    assert f"Of max_cost 3.0000, {3 - told['cost']:.4f} is left." in said
    assert "Of max_requests 50, 39 are left." in said
    assert "Unscored: 1 of 10 judgements (10.0%); the failure budget is 20.0%." in said

    again = world.mira("label", "--max-cost", 3)
    assert "in its last run; this command asked nothing" in again
    assert "is left." not in again
    forced = world.mira("label", "--force")
    known = _row(forced, GROUP)
    assert known[2:6] == ["0", "0", "10", "0"] and known[8] == "0.0000"
    later = read_json(world.run / "manifest.json")["stages"]["label"]["summary"]["groups"][GROUP]["requests"]
    assert (later["known_in"], later["known_out"]) == (told["tokens_in"], told["tokens_out"])
    assert later["known_cost"] == told["cost"] and later["models"] == told["models"]


def test_a_stopped_label_says_what_is_left(tmp_path: Path, teacher: Teacher) -> None:
    world = _world(tmp_path, teacher)
    world.mira("discover")
    said = world.mira("label", "--max-requests", 4, ok=False)
    assert "3 requests are answered and in the journal. Those left:" in said
    left = [int(_row(said, name)[1]) for name in ("source_A", "source_B") if f"│ {name} " in said]
    assert sum(left) == 7 and _row(said, "all") == ["all", "7"]
    assert "Run the same command again with a higher --max-requests" in said


def test_discover_tells_of_its_clusters(tmp_path: Path, teacher: Teacher) -> None:
    world = _world(tmp_path, teacher, discover={"rubrics": {}, "slots": 3, "sample": 4})
    said = world.mira("discover")
    assert _row(said, GROUP)[2:4] == ["8", "1 HTTP 503"]
    assert [_row(said, s)[2:5] for s in ("source_A", "source_B")] == [["4", "31", "4"], ["4", "29", "4"]]
    assert f"{GROUP}: 24 points of 8 records, named by medoid" in said
    assert _row(said, "A1")[2] == "8" and _row(said, "A1")[5] == "100%" and "(8)" in _row(said, "A1")[6]
    assert "More records are needed: 3 of 3 slots (A1, A2, A3) have fewer than 30 points" in said
    assert "The teacher judged 4 per source; have it judge twice as many: discover.sample: 8" in said
    assert "Unscored: 0 of 8 judgements (0.0%)" in said
