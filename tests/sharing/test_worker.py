"""Workers share what an endpoint, and what may be spent, are limited to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.config.settings import EndpointSettings, TeacherSettings
from mira.llm.client import Client
from mira.llm.cost import current_spending, shared_spending
from mira.llm.journal.journal import Journal
from mira.llm.limiter import Limiter
from mira.sharing.worker import Worker, as_worker, this_worker


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_shares_add_up_and_differ_by_one_at_most(total: int, of: int) -> None:
    shares = [Worker(index, of).share(total) for index in range(of)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_a_process_is_the_only_worker_unless_somebody_says_so() -> None:
    assert (this_worker(), this_worker().label) == (Worker(0, 1), "")
    with as_worker(2, 8):
        assert this_worker() == Worker(2, 8)
        assert this_worker().label.startswith("-2-")
    assert this_worker() == Worker()


@pytest.mark.parametrize(
    ("of", "shared_by", "most"), [(1, 0, 256), (8, 0, 32), (8, 1, 256), (8, 2, 128), (1000, 0, 1), (1, 4, 64)]
)
def test_requests_in_flight_are_shared(tmp_path: Path, of: int, shared_by: int, most: int) -> None:
    settings = EndpointSettings(base_url="http://127.0.0.1:9/v1", model="m", shared_by=shared_by)
    with as_worker(0, of), Journal(tmp_path) as journal:
        client = Client(settings, journal)
        assert client.most == most
    with Journal(tmp_path / "other") as journal:
        alone = Client(settings.model_copy(update={"shared_by": 0}), journal)
    assert client.identity == alone.identity, "how many ask does not change what is asked"


def test_what_may_be_spent_is_shared() -> None:
    teacher = TeacherSettings(max_cost=8.0, max_requests=10)
    found = []
    for index in range(4):
        with as_worker(index, 4), shared_spending(teacher):
            spending = current_spending(teacher)
            found.append((spending.max_cost, spending.max_requests))
    assert found == [(2.0, 3), (2.0, 3), (2.0, 2), (2.0, 2)]
    with shared_spending(TeacherSettings()):
        assert current_spending(TeacherSettings()).max_cost is None


@pytest.mark.parametrize(("workers", "limit"), [(1, 16), (4, 4), (100, 1)])
def test_workers_begin_with_their_share_of_requests(workers: int, limit: int) -> None:
    assert Limiter(256, workers=workers).limit == limit
