from hypothesis import given
from hypothesis import strategies as st

from mira.reviewing.strata import Cell, Stratum, allocate, stratify, weights

CELLS = [
    Cell(source, kept, band, labelled)
    for source in ("ant", "bee", "cat")
    for kept in (True, False)
    for band in ("near", "far")
    for labelled in (True, False)
]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(30, 500), st.randoms())
def test_a_sample_has_its_size_and_misses_no_stratum(sizes: list[int], n: int, random) -> None:
    strata = [Stratum(f"s{i}", size, random.random()) for i, size in enumerate(sizes)]
    drawn = allocate(strata, n)
    assert sum(drawn.values()) == min(n, sum(sizes))
    assert all(1 <= drawn[s.name] <= s.records for s in strata)
    assert allocate(list(reversed(strata)), n) == drawn


def test_a_stratum_gives_two_records_where_that_fits() -> None:
    drawn = allocate([Stratum("small", 50, 0.001), Stratum("large", 1000, 0.999)], 40)
    assert drawn == {"small": 2, "large": 38}


def test_a_small_sample_takes_coarser_strata() -> None:
    names = [len(set(stratify(CELLS, n).values())) for n in (100, 24, 12, 8, 4, 2)]
    assert names == [18, 12, 6, 4, 2, 2]
    assert stratify(CELLS, 100)[Cell("ant", True, "near", True)] == "ant: kept, labelled"


def test_parts_follow_the_settings() -> None:
    found = weights(dict.fromkeys(CELLS, 100), near=0.6, labelled=0.25)
    assert abs(sum(found.values()) - 1) < 1e-9
    assert abs(sum(part for cell, part in found.items() if cell.labelled) - 0.25) < 1e-9
    near = sum(part for cell, part in found.items() if not cell.labelled and cell.band == "near")
    assert abs(near - 0.75 * 0.6) < 1e-9


def test_parts_of_kinds_that_are_missing_go_to_the_others() -> None:
    cells = {cell: 10 for cell in CELLS if not cell.labelled}
    assert abs(sum(weights(cells, near=0.5, labelled=0.2).values()) - 1) < 1e-9
