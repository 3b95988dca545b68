from pathlib import Path

import pytest

from mira.run_folder.cache import Cache


def test_an_entry_is_kept_as_long_as_it_is_asked_for(tmp_path: Path) -> None:
    with Cache(tmp_path / "c") as cache:
        assert cache.get("a") is None
        cache.put("a", b"one")
        cache.put("b", b"two")
    with Cache(tmp_path / "c") as cache:
        assert cache.get("a") == b"one"
    with Cache(tmp_path / "c") as cache:
        assert cache.get("b") is None
        assert cache.get("a") == b"one"
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["a"]


def test_nothing_goes_when_the_body_fails(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.put("a", b"one")
    with pytest.raises(ZeroDivisionError), Cache(tmp_path):
        1 / 0  # noqa: B018
    assert Cache(tmp_path).get("a") == b"one"


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_entry_counts_as_missing(tmp_path: Path, damage: bytes | None) -> None:
    with Cache(tmp_path) as cache:
        cache.put("a", b"one")
        data = bytearray((tmp_path / "a").read_bytes())
        data[-1] ^= 1
        (tmp_path / "a").write_bytes(bytes(data) if damage is None else damage)
        assert cache.get("a") is None
        assert not (tmp_path / "a").exists()


def test_an_entry_under_another_name_is_not_believed(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.put("a", b"one")
        (tmp_path / "a").rename(tmp_path / "b")
        assert cache.get("b") is None
