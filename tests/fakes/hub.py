"""A model hub on a loopback port: the API that `huggingface_hub` calls, with faults to switch on."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.helpers.threaded_http import QuietHandler, serving_in_thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".gguf", ".safetensors", ".bin")
API = re.compile(r"^/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?$")
RESOLVE = re.compile(r"^/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
CDN = re.compile(r"^/cdn/(?P<repo>[^/]+/[^/]+)/(?P<path>.+)$")


@dataclass
class FakeRepo:
    """One model repository."""

    files: dict[str, bytes]
    commit: str = COMMIT
    branches: tuple[str, ...] = ("main",)
    token: str | None = None
    """Needed to see anything but the error."""
    gated: bool = False
    """Listed for everybody, files only with the token."""


@dataclass
class Fault:
    """What happens to the next downloads of a file."""

    cut_after: int | None = None
    """Bytes of each answer, after which the connection ends."""
    status: int | None = None
    retry_after: int | None = None
    times: int = 1


@dataclass
class FakeHub:
    """The hub's content, its faults, and what it was asked."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    """By path inside a repository; `` for the API."""
    corrupt: set[str] = field(default_factory=set)
    """Paths whose bytes differ from what is listed."""
    ranges: bool = True
    """Whether `Range` is honoured."""
    hold_after: int | None = None
    """Downloads of large files stop after so many bytes until `release` is set."""
    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def asked(self, part: str) -> list[dict[str, str]]:
        """The headers of all requests whose target holds this text."""
        return [headers for target, headers in self.requests if part in target]


@contextmanager
def serve_hub(hub: FakeHub) -> Iterator[str]:
    """Serve until the block is left; the URL."""

    class Handler(_Handler):
        content = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    with serving_in_thread(server):
        try:
            yield hub.url
        finally:
            hub.release.set()


class _Handler(QuietHandler):
    content: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, target = self.content, urlsplit(self.path).path
        hub.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if match := API.match(target):
            self._describe(match["repo"], unquote(match["revision"] or "main"))
        elif match := RESOLVE.match(target):
            self._resolve(match["repo"], unquote(match["path"]))
        elif match := CDN.match(target):
            self._send_file(match["repo"], unquote(match["path"]))
        else:
            self._error(404, "", "no such page")

    def _repo(self, name: str) -> FakeRepo | None:
        """The repository when it exists and may be seen; the error is sent otherwise."""
        repo = self.content.repos.get(name)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or (repo.token is not None and not repo.gated and given != repo.token):
            # As the real one: who shows no token is not told what exists.
            self._error(401 if not given or repo is not None else 404, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _describe(self, name: str, revision: str) -> None:
        if self._fail(""):
            return
        repo = self._repo(name)
        if repo is None:
            return
        if revision not in (*repo.branches, repo.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [_sibling(path, data) for path, data in repo.files.items()]
        self._json({"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings})

    def _resolve(self, name: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None or self._fail(path):
            return
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo.gated and given != repo.token:
            self._error(403 if given else 401, "GatedRepo", f"Access to model {name} is restricted.")
        elif path not in repo.files:
            self._error(404, "EntryNotFound", "Entry not found")
        elif path.endswith(LARGE):  # another origin, to which no token may go
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/cdn/{name}/{path}")  # type: ignore[attr-defined]
            self.send_header("X-Repo-Commit", repo.commit)
            self.send_header("X-Linked-Size", str(len(repo.files[path])))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(repo.files[path]).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_file(name, path)

    def _send_file(self, name: str, path: str) -> None:
        hub = self.content
        data = hub.repos[name].files[path]
        if path in hub.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        start = 0
        if hub.ranges and (match := re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))):
            start = int(match[1])
        if start >= len(data) > 0:
            self._error(416, "", "range not satisfiable")
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        self._write(path, data[start:])

    def _write(self, path: str, data: bytes) -> None:
        hub, fault = self.content, self.content.faults.get(path)
        if fault is not None and fault.cut_after is not None and fault.times > 0:
            fault.times -= 1
            self.wfile.write(data[: fault.cut_after])
            self.close_connection = True
            return
        if hub.hold_after is not None and path.endswith(LARGE) and len(data) > hub.hold_after:
            self.wfile.write(data[: hub.hold_after])
            self.wfile.flush()
            hub.held.set()
            hub.release.wait(60)
            data = data[hub.hold_after :]
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the client was killed

    def _fail(self, path: str) -> bool:
        fault = self.content.faults.get(path)
        if fault is None or fault.status is None or fault.times <= 0:
            return False
        fault.times -= 1
        self._error(fault.status, "", "trouble", retry_after=fault.retry_after)
        return True

    def _error(self, status: int, code: str, text: str, *, retry_after: int | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": text} if code else {}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        self._json({"error": text}, status, headers)

    def _json(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob}
    if path.endswith(LARGE):
        entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry
