"""A model hub over loopback HTTP, small enough to read: what `huggingface_hub` asks for, kept in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class FakeHub(ThreadingHTTPServer):
    """Repositories as name -> file -> bytes; one branch, one commit id a state."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def oid(self, name: str) -> str:
        state = sorted((file, hashlib.sha1(data).hexdigest()) for file, data in self.repos[name].items())
        return hashlib.sha1(json.dumps(state).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = b"", headers: Sequence[tuple[str, str]] = ()) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        if not any(key == "Content-Length" for key, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self) -> None:
        self._answer(404, {"error": "not found"}, [("X-Error-Code", "RepoNotFound")])

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        return self._change(path, body)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        url = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repos:
            return self._answer(409, url)
        self.server.repos[name] = {}
        self.server.private[name] = asked.get("private") is True or asked.get("visibility") == "private"
        return self._answer(200, url)

    def _change(self, path: str, body: bytes) -> None:
        name = "/".join(path.split("/")[3:5])
        if name not in self.server.repos:
            return self._missing()
        if "/preupload/" in path:
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": modes})
        if "/paths-info/" in path:
            return self._answer(200, [])
        if "/commit/" in path:
            files = self.server.repos[name]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            oid = self.server.oid(name)
            return self._answer(
                200, {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"}
            )
        return self._missing()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        parts = path.strip("/").split("/")
        if path.startswith("/api/models/"):
            name = "/".join(parts[2:4])
            if name not in self.server.repos:
                return self._missing()
            files = self.server.repos[name]
            if "tree" in parts:
                tree = [
                    {"type": "file", "path": f, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for f, d in sorted(files.items())
                ]
                return self._answer(200, tree)
            info = {"id": name, "sha": self.server.oid(name), "siblings": [{"rfilename": f} for f in sorted(files)]}
            return self._answer(200, info)
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        data = self.server.repos.get(name, {}).get(file)
        if data is None:
            return self._missing()
        etag = hashlib.sha1(data).hexdigest()
        headers = [("ETag", f'"{etag}"'), ("X-Repo-Commit", self.server.oid(name)), ("Content-Length", str(len(data)))]
        return self._answer(200, data, headers)

    do_HEAD = do_GET


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
