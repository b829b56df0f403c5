"""What the stand-ins for foreign servers share: a threaded HTTP server with JSON routes and event streams."""

import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.threaded_http import QuietHandler

VOCABULARY = 1000
"""Token ids that the stand-ins draw are below it, so that they are in the demo model's vocabulary too."""

Reply = tuple[int, Any]
Route = Callable[["Exchange"], None]


class Exchange:
    """One request and the way to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: Any, query: dict[str, list[str]]) -> None:
        self._handler = handler
        self.body = body
        self.query = query
        self.headers = handler.headers

    def reply(self, status: int, body: Any) -> None:
        """A whole answer; dicts and lists become JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler = self._handler
        handler.send_response(status)
        handler.send_header("Content-Type", "text/plain" if isinstance(body, bytes) else "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def stream(self, events: Iterable[Any]) -> bool:
        """Events, then `[DONE]`; False when the client has gone before the end."""
        handler = self._handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for event in events:
                self._chunk(f"data: {json.dumps(event)}\n\n".encode())
                if self._is_gone():
                    return False
            self._chunk(b"data: [DONE]\n\n")
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            handler.close_connection = True
            return False
        return True

    def _chunk(self, data: bytes) -> None:
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._handler.wfile.flush()

    def _is_gone(self) -> bool:
        connection = self._handler.connection
        connection.setblocking(False)
        try:
            return len(connection.recv(1, socket.MSG_PEEK)) == 0
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            connection.setblocking(True)


def serve(port: int, routes: dict[str, Route], host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A bound server; routes by `METHOD /path`. Call `serve_forever` on it."""
    from urllib.parse import parse_qs, urlsplit

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            route = routes.get(f"{self.command} {parts.path}")
            exchange = Exchange(self, json.loads(data) if data else None, parse_qs(parts.query))
            if route is None:
                exchange.reply(404, {"detail": "Not Found"})
            else:
                route(exchange)

        do_GET = do_POST = _answer

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that has gone is no error."""

    return Server((host, port), Handler)


class Slots:
    """Streams that run at once; more wait."""

    def __init__(self, count: int) -> None:
        self.free = threading.Semaphore(count)
        self.running = 0
        self.aborted = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        self.free.acquire()
        with self.lock:
            self.running += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.running -= 1
        self.free.release()


def draw_tokens(prompt: list[int], sampling: dict[str, Any], most: int) -> Iterator[tuple[int, bool]]:
    """Token ids that depend on the seed, each with whether it ends the stream by a stop id."""
    seed = sampling.get("seed")
    source = random.Random(f"{prompt[-1:]}{seed}" if seed is not None and sampling.get("temperature") != 0 else 1)
    stops = set(sampling.get("stop_token_ids") or [])
    least = sampling.get("min_tokens") or 0
    for number in range(most):
        token = source.randrange(20, VOCABULARY)
        while token in stops and number < least:
            token = source.randrange(20, VOCABULARY)
        yield token, token in stops
        if token in stops:
            return


def say(text: str) -> None:
    """A log line, as the real servers write them: on stderr."""
    print(text, file=sys.stderr, flush=True)


def pause(seconds: float) -> None:
    """Time passes."""
    time.sleep(seconds)
