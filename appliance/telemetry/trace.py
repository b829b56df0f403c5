"""W3C trace context: which trace a request belongs to, and our own span in it."""

import random
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
SAMPLED, UNSAMPLED = "01", "00"


@dataclass(frozen=True, slots=True)
class Span:
    """Our part of a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    """The caller's span; empty when the trace begins here."""
    flags: str

    @property
    def sampled(self) -> bool:
        """Spans of this trace are recorded."""
        return self.flags == SAMPLED

    def traceparent(self) -> bytes:
        """The header for those whom we call: they are our children."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()


def continue_trace(traceparent: bytes) -> Span | None:
    """A new span below the caller's; None for a header that the standard tells us to ignore."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = (part.decode("latin-1") for part in match.groups(b""))
    if version == "ff" or trace_id == _NO_TRACE or parent_id == _NO_SPAN or (version == "00" and rest):
        return None
    # Only `sampled` is passed on: a flag of a later version means nothing under ours.
    return Span(trace_id, new_span_id(), parent_id, SAMPLED if int(flags, 16) & 1 else UNSAMPLED)


def begin_trace() -> Span:
    """The first span of a trace of our own, not sampled yet."""
    return Span(f"{random.getrandbits(128) or 1:032x}", new_span_id(), "", UNSAMPLED)


def new_span_id() -> str:
    """A random span id."""
    return f"{random.getrandbits(64) or 1:016x}"
