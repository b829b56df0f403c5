"""What a front end writes for each answered request: one line of the access log, and the end of its span."""

import logging
from collections.abc import Callable

from appliance.frontend.tracing import RequestTracer
from appliance.web.exchange import Exchange

access_log = logging.getLogger("appliance.access")


def access_line(exchange: Exchange) -> str:
    """Client, method, path as it was sent, outcome, and the ids that the client gave; without line breaks in any."""
    request = exchange.request
    outcome = "broken off" if exchange.broken else exchange.status
    line = f"{request.peer} {request.method} {_shown(request.raw_path)} {outcome}"
    request_id, span = request.headers.get(b"x-request-id"), request.span
    if request_id is not None:
        line += f" x_request_id={_shown(request_id)}"
    if span is not None:
        line += f" trace_id={span.trace_id} span_id={span.span_id}"
        line += f" parent_id={span.parent_id}" if span.parent_id else ""
    return line


def _shown(text: bytes) -> str:
    return text.decode("ascii", "backslashreplace").replace(" ", "\\x20")


def on_done(tracer: RequestTracer | None, *, access_log: bool) -> Callable[[Exchange], None] | None:
    """What the listener calls for each answered request."""
    if tracer is None or not access_log:
        return log_access if access_log else None if tracer is None else tracer.end

    def log_and_end(exchange: Exchange) -> None:
        log_access(exchange)
        tracer.end(exchange)

    return log_and_end


def log_access(exchange: Exchange) -> None:
    """One line per answered request; never its text."""
    access_log.info(access_line(exchange))
