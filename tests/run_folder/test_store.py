"""Every store keeps the same promises: a folder, a URL in memory, and (where their packages are installed) buckets."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from mira.errors import ConfigError
from mira.run_folder.folder_store import FolderStore
from mira.run_folder.store import Store, UrlStore
from support.bucket import client_of, s3_server

# Warnings of the client's and the server's own libraries are not ours.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield FolderStore(tmp_path / "run")
    elif request.param == "memory":
        yield UrlStore(f"memory://{uuid4().hex}/run")
    else:
        with s3_server() as port, client_of(port) as client:
            client.mkdir("bucket")
            yield UrlStore("s3://bucket/run/")


def test_what_is_put_is_there_whole(store: Store, tmp_path: Path) -> None:
    assert store.list() == {}
    assert store.stat("a/b.json") is None
    with pytest.raises(FileNotFoundError):
        store.read("a/b.json")
    with pytest.raises(FileNotFoundError):
        store.fetch("a/b.json", tmp_path / "got")
    put = store.put("a/b.json", b"first")
    assert put.size == 5
    (tmp_path / "file").write_bytes(b"second one")
    again = store.put("a/b.json", tmp_path / "file")
    assert again.identity != put.identity
    assert store.read("a/b.json") == b"second one"
    assert store.stat("a/b.json") == again
    assert store.fetch("a/b.json", tmp_path / "got") == again
    assert (tmp_path / "got").read_bytes() == b"second one"


def test_a_listing_has_what_is_below_a_name(store: Store) -> None:
    for name in ("top", "a/1", "a/b/2", "ab/3", "a/with space & ümlaut=1"):
        store.put(name, name.encode())
    assert set(store.list()) == {"top", "a/1", "a/b/2", "ab/3", "a/with space & ümlaut=1"}
    assert set(store.list("a")) == {"a/1", "a/b/2", "a/with space & ümlaut=1"}
    assert set(store.list("a", deep=False)) == {"a/1", "a/with space & ümlaut=1"}
    assert set(store.list(deep=False)) == {"top"}
    assert store.list("a/1") == {"a/1": store.stat("a/1")}
    assert store.list("none") == {}
    store.remove(["a/1", "not there", "a/b/2"])
    assert set(store.list("a")) == {"a/with space & ümlaut=1"}


def test_nothing_is_believed_longer_than_it_is_true(store: Store) -> None:
    store.put("a/1", b"1")
    assert set(store.list("a")) == {"a/1"}
    other = type(store)(getattr(store, "_url", None) or getattr(store, "_path", None))  # type: ignore[call-arg]
    other.put("a/2", b"2")
    other.remove(["a/1"])
    assert set(store.list("a")) == {"a/2"}
    assert store.stat("a/1") is None


def test_of_several_writers_one_wins(store: Store) -> None:
    assert store.conditional()
    assert store.list() == {}, "what tests it is removed"
    for turn in range(5):
        ready = threading.Barrier(8)

        def write(number: int, turn: int = turn, ready: threading.Barrier = ready) -> bool:
            ready.wait()
            return store.put_new(f"leases/{turn}", f"worker {number}".encode())

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert won.count(True) == 1
        assert store.read(f"leases/{turn}") == f"worker {won.index(True)}".encode()
        assert not store.put_new(f"leases/{turn}", b"late")
    store.remove(["leases/0"])
    assert store.put_new("leases/0", b"after")


@pytest.mark.parametrize("url", ["nosuch://b/run", "http://h/run", "s3:///run", "simplecache::s3://b/run"])
def test_a_place_that_cannot_be_one_is_refused_unasked(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        UrlStore(url).list()
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_secret_in_a_url_is_not_repeated() -> None:
    store = UrlStore("s3://me:hush@bucket/run")
    with pytest.raises(ConfigError) as caught:
        store.list()
    assert "hush" not in f"{caught.value} {store.url}"
