"""SIGKILL at random points while scoring: each record is there once, and only requests under way are asked again."""

from pathlib import Path

from judging.kill import UNDER_WAY, run


def test_sigkill_loses_and_doubles_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path, kills=5, records=5000)
    assert outcome.kills == 5
    assert outcome.journalled == outcome.rows == 5000
    assert outcome.most_again <= UNDER_WAY
    assert outcome.asked < 5000 + 5 * UNDER_WAY
