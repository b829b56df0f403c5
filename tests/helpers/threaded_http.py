"""Small HTTP servers in threads of the test's process, for clients that block."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from typing import Any, TypeVar

ServerType = TypeVar("ServerType", bound=BaseServer)

POLL_S = 0.01  # a server notices that it shall end only between two polls


class QuietHandler(BaseHTTPRequestHandler):
    """Logs no requests; may also stand behind a unix socket, whose clients have no address."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """The base class would look for a host."""
        return "client"


@contextmanager
def serving_in_thread(server: ServerType) -> Iterator[ServerType]:
    """Serve until the block is left; then the server is closed and its thread gone."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
