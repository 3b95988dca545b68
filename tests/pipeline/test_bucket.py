"""A bucket over real HTTP: what is wrong with it is named in one line before anything is done, and faults pass."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.loading import load_config
from mira.errors import MiraError
from mira.pipeline.runner import run_stages
from mira.run_folder.store import UrlStore
from support.bucket import KEY_ID, REGION, SECRET, SLOW_DOWN, Fault, FaultProxy, client_of, s3_server
from support.cluster import of_bucket, of_folder
from support.served_case import sft_bundle
from support.tiny_world import RUBRIC

# Warnings of the client's and the server's own libraries are not ours.
pytestmark = pytest.mark.filterwarnings("default")
WRONG_REGION = f"The authorization header is malformed; the region '{REGION}' is wrong; expecting 'eu-west-1'"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before a server with the bucket "bucket"; this process has the credentials."""
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    with FaultProxy(server) as found, client_of(found.port, MAX_ATTEMPTS="1") as client:
        client.mkdir("bucket")
        yield found
        found.rule = lambda _: None
    with client_of(server) as client:
        client.rm("bucket", recursive=True)


def _config(tmp_path: Path, run: str) -> Path:
    (tmp_path / "docs").mkdir(exist_ok=True)
    for n in range(4):
        rows = [{"id": f"{n}.{i}", "text": f"Text {n} number {i}. " * (1 + i % 5)} for i in range(50)]
        (tmp_path / "docs" / f"{n}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"run": run, "sources": [{"name": "s", "path": str(tmp_path / "docs")}], "score": {"workers": 1}}
    path = tmp_path / "mira.yaml"
    path.write_text(json.dumps(said | {"select": {"method": "random", "scope": "source"}}))
    return path


def _as(fault: Fault) -> Any:
    return lambda proxy, patch: setattr(proxy, "rule", lambda _: fault)


def _for(fault: Fault, method: str) -> Any:
    return lambda proxy, patch: setattr(proxy, "rule", lambda request: fault if request.method == method else None)


def _without(*names: str) -> Any:
    return lambda proxy, patch: [patch.delenv(f"AWS_{name}") for name in names]


CASES: dict[str, tuple[Any, str, str]] = {
    "no bucket": (None, "The specified bucket does not exist", "Make the bucket, or correct its name"),
    "no rights": (_as(Fault(403, "AccessDenied", "Access Denied")), "Access Denied", "Ask for the right"),
    "wrong secret": (_as(Fault(403, "SignatureDoesNotMatch", "The signature differs.")), "signature", "ACCESS_KEY"),
    "unknown key": (_as(Fault(403, "InvalidAccessKeyId", "No such key.")), "No such key", "AWS_ACCESS_KEY_ID"),
    "expired": (_as(Fault(400, "ExpiredToken", "The token has expired.")), "has expired", "Log in again"),
    "wrong region": (_as(Fault(400, "AuthorizationHeaderMalformed", WRONG_REGION)), "eu-west-1", "AWS_DEFAULT_REGION"),
    "elsewhere": (_for(Fault(301, "PermanentRedirect", "Use the endpoint."), "GET"), "endpoint", "DEFAULT_REGION"),
    "overload": (_as(SLOW_DOWN), "reduce your request rate", "use fewer workers"),
    "nobody there": (lambda _, patch: patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), "connect", "endpoint"),
    "no credentials": (_without("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"), "Unable to locate credentials", "ACCESS_KEY"),
    "half credentials": (_without("SECRET_ACCESS_KEY"), "credentials", "AWS_SECRET_ACCESS_KEY"),
    "read only": (_for(Fault(403, "AccessDenied", "No puts."), "PUT"), "No puts", "read, put and delete"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_with_a_bucket_is_named_first(
    case: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, said, hint = CASES[case]
    where = "s3://nothing/run" if make is None else "s3://bucket/run"
    config = _config(tmp_path, where)
    sft_bundle(tmp_path / "bundle", RUBRIC)
    if make:
        make(proxy, monkeypatch)
    s3fs = pytest.importorskip("s3fs")
    for command in (["index", str(config)], ["push", str(tmp_path / "bundle"), f"{where}/x"]):
        s3fs.S3FileSystem.clear_instance_cache()
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, MiraError), done.exception
        assert said in done.exception.message
        assert hint in done.exception.hint
        assert "\n" not in f"{done.exception.message}{done.exception.hint}"
        assert done.exception.message.startswith(("s3://bucket", "s3://nothing"))
        assert SECRET not in f"{done.exception}{done.output}"
        assert KEY_ID not in f"{done.exception}{done.output}"
    assert not list((tmp_path / "cache").rglob("*.parquet")), "nothing was begun"


def test_bursts_slow_puts_and_dropped_connections_pass(proxy: FaultProxy, tmp_path: Path) -> None:
    near = load_config(_config(tmp_path, str(tmp_path / "near")))
    run_stages(near)
    number, guard = [0], threading.Lock()

    def rule(request: web.Request) -> Fault | None:
        with guard:
            number[0] += 1
            n = number[0]
        if 20 <= n < 24:
            return SLOW_DOWN
        if n % 17 == 0:
            return Fault(drop=True, passed=True)  # it was done, and nobody says so
        return Fault(delay=0.3) if request.method == "PUT" and n % 5 == 0 else None

    proxy.rule = rule
    far = load_config(_config(tmp_path, "s3://bucket/run"))
    run_stages(far)
    assert proxy.said["SlowDown"] and proxy.said["drop"] and proxy.said["delay"]
    proxy.rule = lambda _: None
    with client_of(proxy.port) as client:
        assert of_bucket(client, "bucket/run") == of_folder(near.run)


@pytest.mark.parametrize(
    ("fault", "holds"),
    [
        (Fault(501, "NotImplemented", "No such header."), False),
        (None, True),
    ],
)
def test_a_store_without_conditional_puts_is_found_out(proxy: FaultProxy, fault: Fault | None, *, holds: bool) -> None:
    proxy.rule = lambda request: fault if "If-None-Match" in request.headers else None
    assert UrlStore("s3://bucket/run").conditional() is holds


@pytest.mark.parametrize("fault", [SLOW_DOWN, Fault(409, "ConditionalRequestConflict", "Try again."), Fault(drop=True)])
def test_a_store_that_does_not_answer_is_not_one_without_conditions(proxy: FaultProxy, fault: Fault) -> None:
    left = [40]

    def rule(request: web.Request) -> Fault | None:
        left[0] -= "If-None-Match" in request.headers
        return fault if "If-None-Match" in request.headers and left[0] > 0 else None

    proxy.rule = rule
    assert UrlStore("s3://bucket/run").conditional()
    proxy.rule = lambda _: fault
    with pytest.raises(OSError, match=r"rate|Try again|closed"):
        UrlStore("s3://bucket/run").conditional()


def test_a_store_that_ignores_the_condition_is_found_out(proxy: FaultProxy) -> None:
    proxy.ignored = {"if-none-match"}
    assert not UrlStore("s3://bucket/run").conditional()


def test_a_put_whose_answer_is_lost_is_known_as_ones_own(proxy: FaultProxy) -> None:
    lost = [1]

    def rule(request: web.Request) -> Fault | None:
        if request.method == "PUT" and lost:
            lost.pop()
            return Fault(drop=True, passed=True)
        return None

    proxy.rule = rule
    store = UrlStore("s3://bucket/run")
    assert store.put_new("leases/a", b"worker 1"), "the second try meets what the first one put"
    assert not store.put_new("leases/a", b"worker 2")
    assert proxy.said["drop"] == 1


def test_a_bare_412_means_that_it_is_there(proxy: FaultProxy) -> None:
    store = UrlStore("s3://bucket/run")
    store.put("leases/a", b"worker 1")
    proxy.rule = lambda r: Fault(412, "PreconditionFailed", "It is there.") if "If-None-Match" in r.headers else None
    assert not store.put_new("leases/a", b"worker 2")


def test_ray_works_in_a_bucket(proxy: FaultProxy, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    near = load_config(_config(tmp_path, str(tmp_path / "near")))
    run_stages(near)
    far = load_config(_config(tmp_path, "s3://bucket/run"), ["score.engine=ray", "score.workers=2"])
    try:
        run_stages(far)
    finally:
        ray.shutdown()
    with client_of(proxy.port) as client:
        assert of_bucket(client, "bucket/run") == of_folder(near.run)
    assert proxy.asked["PUT"] > len(of_folder(near.run))


def test_a_burst_is_waited_for_where_an_object_is_looked_at(proxy: FaultProxy) -> None:
    store = UrlStore("s3://bucket/run")
    put = store.put("a", b"1")
    left = [3]

    def rule(request: web.Request) -> Fault | None:
        left[0] -= 1
        return SLOW_DOWN if left[0] >= 0 else None

    proxy.rule = rule
    assert store.stat("a") == put
    assert proxy.said["SlowDown"] == 3
