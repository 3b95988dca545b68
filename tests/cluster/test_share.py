"""Which shards are a worker's: the command line, Slurm, Kubernetes, and what is refused."""

from collections import Counter

import pytest

from mira.cluster.share import find_share, workers_of
from mira.cluster.work import as_array
from mira.errors import ConfigError
from mira.stage import Share, worker_of


def slurm(number: int, low: int, high: int, count: int) -> dict[str, str]:
    names = ("ID", "MIN", "MAX", "COUNT")
    return {f"SLURM_ARRAY_TASK_{name}": str(n) for name, n in zip(names, (number, low, high, count), strict=True)}


def kubernetes(index: str, workers: str) -> dict[str, str]:
    return {"JOB_COMPLETION_INDEX": index, "MIRA_WORKERS": workers}


@pytest.mark.parametrize(
    ("shard", "of", "environ", "share"),
    [
        (2, 5, {}, Share(2, 5)),
        (None, None, slurm(7, 4, 9, 6), Share(3, 6)),
        (None, None, slurm(0, 0, 0, 1), Share(0, 1)),
        (None, None, kubernetes("3", "8"), Share(3, 8)),
        (None, None, {"MIRA_WORKERS": "8", **slurm(1, 0, 1, 2)}, Share(1, 2)),
        (None, 6, slurm(7, 4, 9, 6), Share(3, 6)),
        (1, None, kubernetes("3", "8"), Share(1, 8)),
        (3, 64, slurm(3, 3, 15, 6), Share(3, 64)),  # a part of the array again: the command line wins
        (0, 2, {**slurm(7, 4, 9, 6), **kubernetes("3", "8")}, Share(0, 2)),
        (None, None, {**slurm(3, 0, 7, 8), **kubernetes("3", "8")}, Share(3, 8)),
    ],
)
def test_shares(shard: int | None, of: int | None, environ: dict[str, str], share: Share) -> None:
    assert find_share(shard, of, environ) == share


@pytest.mark.parametrize(
    ("shard", "of", "environ", "words"),
    [
        (None, None, {}, "--shard and --of is missing"),
        (1, None, {}, "--of is missing"),
        (None, 4, {}, "--shard is missing"),
        (4, 4, {}, "0 to 3"),
        (-1, 4, {}, "0 to 3"),
        (0, 0, {}, "at least one worker"),
        (None, None, slurm(3, 3, 15, 6), "has gaps"),
        (None, None, slurm(2, 0, 14, 8), "has gaps"),  # --array=0-15:2
        (None, 64, slurm(3, 3, 15, 6), "has gaps"),
        (None, 64, slurm(3, 0, 15, 16), "--of is 64"),
        (None, None, {"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN is not"),
        (None, None, {"JOB_COMPLETION_INDEX": "3"}, "MIRA_WORKERS is not"),
        (None, None, {"JOB_COMPLETION_INDEX": "3", "MIRA_WORKERS": " "}, "MIRA_WORKERS is not"),
        (None, None, kubernetes("x", "8"), "not a whole number"),
        (None, None, kubernetes("8", "8"), "0 to 7"),
        (None, None, {**slurm(3, 0, 7, 8), **kubernetes("2", "8")}, "different things"),
    ],
)
def test_shares_that_are_refused(shard: int | None, of: int | None, environ: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_share(shard, of, environ)


def test_how_many_workers_there_are() -> None:
    assert workers_of(7, {"MIRA_WORKERS": "8"}) == 7
    assert workers_of(None, {"MIRA_WORKERS": "8"}) == 8
    assert workers_of(None, slurm(7, 4, 9, 6)) == 6
    with pytest.raises(ConfigError, match="--of is missing"):
        workers_of(None, {})


def test_every_shard_falls_to_one_worker_and_always_to_the_same() -> None:
    shards = [("wiki", f"part-{n:05d}") for n in range(4000)]
    found = Counter(worker_of(*shard, 16) for shard in shards)
    assert sorted(found) == list(range(16))
    assert min(found.values()) > 180
    for shard in shards[:50]:
        assert [index for index in range(16) if Share(index, 16)(*shard)] == [worker_of(*shard, 16)]
    assert worker_of("wiki", "part-00000", 256) == 238
    assert all(Share()(*shard) for shard in shards)


def test_numbers_as_an_array() -> None:
    assert as_array([3, 7, 12, 13, 14, 15]) == "3,7,12-15"
    assert as_array([0, 1]) == "0-1"
    assert as_array([]) == ""
