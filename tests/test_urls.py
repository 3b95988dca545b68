from pathlib import Path

import pytest

from mira.errors import ConfigError
from mira.urls import check_local, check_place, join_url, problem_of_place, problem_of_url, shown_url

KEY = "sk-abcdef0123456789"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{KEY}@host/v1",
        f"https://{KEY}@host/v1",
        f"https://:{KEY}@host/v1",
        f"https://host\\@{KEY}/v1",
        f"{KEY}@host/v1",
        f"htps://{KEY}@host/v1",
        f"https://host/v1#{KEY}",
        f"https://host/v1?key={KEY}",
        f"https://host/v1?{KEY}",
        f"https://host/v1?api-version={KEY}{KEY}",
        f"https://host:{KEY}/v1?key={KEY}",
    ],
)
def test_a_key_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    problem = problem_of_url(url)
    assert problem is not None
    assert KEY not in " ".join(problem)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "https://[::1]:8000/v1/",
        "https://name.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-10-21",
        "https://gateway.ai.cloudflare.com/v1/0123456789abcdef0123456789abcdef/gate/openai",
    ],
)
def test_urls_in_order(url: str) -> None:
    assert problem_of_url(url) is None


def test_what_may_be_a_key_in_a_path_is_not_shown() -> None:
    assert shown_url(f"https://host/{KEY}/v1") == "https://host/***/v1"
    assert shown_url("https://host/v1/0123456789abcdef0123456789abcdef/openai") == "https://host/v1/***/openai"
    assert shown_url("https://host:8000/openai/deployments/gpt-4o-mini/v1?api-version=2024-10-21") == (
        "https://host:8000/openai/deployments/gpt-4o-mini/v1"
    )


def test_a_path_is_joined_before_the_query() -> None:
    assert join_url("http://host/v1", "/models") == "http://host/v1/models"
    assert join_url("http://host/d?api-version=1", "/models") == "http://host/d/models?api-version=1"


@pytest.mark.parametrize("place", ["s3://bucket/run", "gs://b", "file:///tmp/x", "memory://x", "simplecache::s3://b/x"])
def test_urls_are_no_places_to_write_to(place: str) -> None:
    for given in (place, Path(place)):
        with pytest.raises(ConfigError, match="local folders only"):
            check_local(given, "run")
    check_local("/tmp/run", "run")
    check_local("a:b/run", "run")


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("s3:/bucket/run", "one slash"),
        ("/home/me/s3:/bucket/run", "one slash"),
        ("https://host/run", "cannot write to https://"),
        ("hf://datasets/a/b", "cannot write to hf://"),
        ("simplecache::s3://bucket/run", "cannot write to simplecache::s3://"),
        ("s3:///run", "names no bucket"),
        ("s3://", "names no bucket"),
        (f"s3://me:{KEY}@bucket/run", "user name"),
        (f"gs://bucket/run?token={KEY}", "a query"),
        (f"gs://bucket/run#{KEY}", "a query"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_unasked(place: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        check_place(place, "run")
    assert KEY not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("place", ["s3://bucket", "gs://b/run", "az://c/x", "memory://x", "file:///x", "run", "/a:/b"])
def test_places_in_order(place: str) -> None:
    assert problem_of_place(place) is None
