"""One parsed HTTP request."""

import msgspec

from appliance.telemetry.spans import RequestTrace
from appliance.telemetry.trace import Span, continue_trace


class HttpRequest(msgspec.Struct, eq=False):
    """A complete request, body included. Handlers treat it as read-only."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    raw_path: bytes = b""
    """As sent, without the query."""
    query: str = ""
    """As sent, without the question mark."""
    headers: dict[bytes, bytes] = {}
    """By lower-case name; repeated fields are joined with `, `."""
    body: bytes = b""
    peer: str = ""
    """Address of the client; empty on a unix socket."""
    http10: bool = False
    keep_alive: bool = True
    """The client wants to use the connection again."""
    upgrade: bool = False
    """The client asks for another protocol (a WebSocket); the handler may ignore that."""
    span: Span | None = None
    """Our span, when the client's request is part of a trace; its header then names ours as the parent."""
    trace: RequestTrace | None = None
    """Set while the spans of this request are recorded."""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.path})"  # may be logged, so nothing of what is in it

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
