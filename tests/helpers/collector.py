"""A stand-in for a collector of OpenTelemetry on loopback: keeps the spans it takes, and can be slow or refuse them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from tests.helpers.threaded_http import QuietHandler, serving_in_thread


@dataclass
class Collector:
    """What came in, and how it behaves."""

    port: int = 0
    status: int = 200
    delay_s: float = 0.0
    posts: int = 0
    spans: list[dict[str, Any]] = field(default_factory=list)
    """Accepted ones; their attributes as plain values, those of the resource too."""
    paths: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[dict[str, Any]]:
        """Accepted spans of a name."""
        return [span for span in self.spans if span["name"] == name]

    def take(self, body: dict[str, Any]) -> None:
        """Keep the spans of one export."""
        for resource in body["resourceSpans"]:
            common = plain(resource["resource"]["attributes"])
            for scope in resource["scopeSpans"]:
                self.spans += [{**span, "attributes": common | plain(span["attributes"])} for span in scope["spans"]]


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes of OTLP as a dict."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        ((kind, value),) = attribute["value"].items()
        found[attribute["key"]] = int(value) if kind == "intValue" else value
    return found


@contextmanager
def serve_collector(collector: Collector) -> Iterator[None]:
    """Serve until the block is left, at the collector's port, which is chosen when it is 0."""

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.headers["content-type"] == "application/json"
            collector.posts += 1
            time.sleep(collector.delay_s)
            if collector.status == 200:
                collector.paths.add(self.path)
                collector.take(body)
            self.send_response(collector.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "2")
            self.send_header("connection", "close")  # so that it is really gone when it stops
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", collector.port), Handler)
    collector.port = server.server_address[1]
    with serving_in_thread(server):
        yield
