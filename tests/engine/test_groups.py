from pathlib import Path

from mira.engine.groups import GROUP, Grouped, grouped
from mira.run_folder.files import write_bytes


def test_groups_are_bounded_in_size_and_number():
    assert grouped([5, 1, 1, 9, 2, 2], int, 4) == [[5], [1, 1], [9], [2, 2]]
    assert [len(g) for g in grouped([0] * (GROUP + 1), int, 4)] == [GROUP, 1]
    assert grouped([], int, 4) == []


def test_a_group_gives_every_result_in_order_and_all_files_are_there(tmp_path: Path):
    def write(at: int) -> int:
        write_bytes(tmp_path / str(at), b"x")
        return at

    assert Grouped(write)(range(20)) == list(range(20))
    assert {p.name for p in tmp_path.iterdir()} == {str(at) for at in range(20)}
