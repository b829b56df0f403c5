"""One parsed HTTP request."""


class HttpRequest:
    """A complete request, body included. Handlers treat it as read-only."""

    __slots__ = ("body", "headers", "http10", "keep_alive", "method", "path", "peer", "query", "raw_path", "upgrade")

    def __init__(
        self,
        method: str,
        path: str,
        *,
        raw_path: bytes = b"",
        query: str = "",
        headers: dict[bytes, bytes] | None = None,
        body: bytes = b"",
        peer: str = "",
        http10: bool = False,
        keep_alive: bool = True,
        upgrade: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        """Percent-decoded, without the query."""
        self.raw_path = raw_path or path.encode()
        """As sent, without the query."""
        self.query = query
        """As sent, without the question mark."""
        self.headers = {} if headers is None else headers
        """By lower-case name; repeated fields are joined with `, `."""
        self.body = body
        self.peer = peer
        """Address of the client; empty on a unix socket."""
        self.http10 = http10
        self.keep_alive = keep_alive
        """The client wants to use the connection again."""
        self.upgrade = upgrade
        """The client asks for another protocol (a WebSocket); the handler may ignore that."""

    def header(self, name: str, default: str | None = None) -> str | None:
        """A header's value by name in any case, or `default`."""
        value = self.headers.get(name.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")
