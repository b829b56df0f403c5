"""A small HTTP server with prepared answers, on a unix socket or a loopback port, for tests of blocking clients."""

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.threaded_http import QuietHandler, serving_in_thread


@dataclass
class Canned:
    """Answers by `METHOD target`: a status and a body, of which dicts become JSON. Requests are written down."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serve_canned(canned: Canned, socket_path: Path | None = None) -> Iterator[str]:
    """Serve until the block is left; the URL when no socket path is given."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self._answer()

        do_POST = do_PUT = do_DELETE = do_GET

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            name = f"{self.command} {self.path}"
            canned.requests.append((name, json.loads(self.rfile.read(length)) if length else None))
            canned.headers.append(dict(self.headers.items()))
            status, body = canned.answers.get(name, (404, {"error": {"message": f"no answer to {name}"}}))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server: socketserver.BaseServer
    if socket_path is not None:
        server, url = socketserver.ThreadingUnixStreamServer(str(socket_path), Handler), ""
    else:
        tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server, url = tcp, f"http://127.0.0.1:{tcp.server_address[1]}"
    with serving_in_thread(server):
        yield url
