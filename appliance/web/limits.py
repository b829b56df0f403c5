"""Bounds of the listener that no user needs to set; what users set is in `core/settings.py`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """Bounds of one listener. Deadlines are checked once a tick, so they hold to within `tick_s`."""

    head_bytes: int = 64 * 1024
    """Request line and headers together; also the trailers of a chunked body."""
    header_count: int = 128
    """Header fields in one request."""
    head_s: float = 20.0
    """From a request's first byte to the end of its headers; also the TLS handshake."""
    body_s: float = 30.0
    """Head start of a body, before `body_bytes_per_s` is asked of it."""
    body_bytes_per_s: float = 16 * 1024
    """A body that arrives more slowly than this is refused."""
    linger_s: float = 2.0
    """After an early refusal, how long the rest of the request is read and dropped."""
    half_close_s: float = 0.5
    """How long a request that has no answer yet may run on after its client closed its sending side."""
    connections: int = 10_000
    """Open connections; one more is answered with 503 and closed."""
    tick_s: float = 0.5
    """Period of the deadline check."""
