"""One parsed HTTP request."""

from appliance.telemetry.spans import RequestTrace
from appliance.telemetry.trace import Span, continue_trace


class HttpRequest:
    """A complete request, body included. Handlers treat it as read-only."""

    __slots__ = (
        "body",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
        "raw_path",
        "span",
        "trace",
        "upgrade",
    )

    def __init__(
        self,
        method: str,
        path: str,
        raw_path: bytes = b"",
        query: str = "",
        headers: dict[bytes, bytes] | None = None,
        body: bytes = b"",
        peer: str = "",
        *,
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
        self.span: Span | None = None
        """Our span, when the client's request is part of a trace; its header then names ours as the parent."""
        self.trace: RequestTrace | None = None
        """Set while the spans of this request are recorded."""

    def header(self, name: str, default: str | None = None) -> str | None:
        """A header's value by name in any case, or `default`."""
        value = self.headers.get(name.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def join_trace(self) -> None:
        """Begin a span of ours below the one in `traceparent`; a header that is none is dropped with its state."""
        self.span = continue_trace(self.headers[b"traceparent"])
        if self.span is not None:
            self.headers[b"traceparent"] = self.span.traceparent()
        else:
            del self.headers[b"traceparent"]
            self.headers.pop(b"tracestate", None)
