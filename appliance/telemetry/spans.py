"""Spans as they are recorded: of one request, and those of all requests until they are sent. Pure but for ids.

A request that is not traced has none of this. Times are `time.perf_counter` seconds; the wall clock is read once per
request, so that spans of one request cannot disagree.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from appliance.telemetry.trace import Span, new_span_id

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute]
SpanKind = Literal["internal", "server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSpan:
    """One span. Times are nanoseconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the first span of a trace."""
    start_ns: int
    end_ns: int
    kind: SpanKind = "internal"
    failed: bool = False
    attributes: Attributes


class SpanClock:
    """Turns `time.perf_counter` seconds into nanoseconds since 1970, by one moment of which both are known."""

    __slots__ = ("_at", "_at_ns")

    def __init__(self, at: float, at_ns: int) -> None:
        self._at, self._at_ns = at, at_ns

    def unix_ns(self, at: float) -> int:
        """The same moment as unix time."""
        return self._at_ns + round((at - self._at) * 1e9)


class RequestTrace:
    """The spans of one request of a client, from its arrival until its answer has ended."""

    __slots__ = ("_children", "_clock", "_started", "describe", "span")

    def __init__(self, span: Span, started: float, clock: SpanClock) -> None:
        self.span = span
        self.describe: Callable[[], dict[str, Attribute]] | None = None
        """Called at the end for what is known of the request; None: nothing took the request up."""
        self._started = started
        self._clock = clock
        self._children: list[FinishedSpan] = []

    def add(self, name: str, started: float, ended: float, attributes: Attributes) -> None:
        """A part of the request has ended."""
        self._children.append(
            FinishedSpan(
                name=name,
                trace_id=self.span.trace_id,
                span_id=new_span_id(),
                parent_id=self.span.span_id,
                start_ns=self._clock.unix_ns(started),
                end_ns=self._clock.unix_ns(ended),
                attributes=attributes,
            )
        )

    def finish(self, name: str, ended: float, attributes: Attributes, *, failed: bool) -> list[FinishedSpan]:
        """All spans of the request, its own behind its parts."""
        attributes = {**attributes, **(self.describe() if self.describe else {})}
        own = FinishedSpan(
            name=name,
            trace_id=self.span.trace_id,
            span_id=self.span.span_id,
            parent_id=self.span.parent_id,
            start_ns=self._clock.unix_ns(self._started),
            end_ns=self._clock.unix_ns(ended),
            kind="server",
            failed=failed or "error.type" in attributes,
            attributes=attributes,
        )
        return [*self._children, own]


class SpanQueue:
    """Finished spans that wait for the collector. Never blocks: what comes when it is full is counted and gone."""

    def __init__(self, room: int, wake: Callable[[], None] = lambda: None) -> None:
        """`wake` is called when there is something to send."""
        self.dropped = 0
        """Spans that were not kept."""
        self._room = room
        self._wake = wake
        self._spans: deque[FinishedSpan] = deque()

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: FinishedSpan) -> None:
        """Keep a span to be sent."""
        if len(self._spans) >= self._room:
            self.dropped += 1
            return
        self._spans.append(span)
        if len(self._spans) == 1:
            self._wake()

    def peek(self, most: int) -> list[FinishedSpan]:
        """The oldest spans; they stay until `discard`."""
        return [self._spans[at] for at in range(min(most, len(self._spans)))]

    def discard(self, count: int) -> None:
        """Forget so many of the oldest."""
        for _ in range(count):
            self._spans.popleft()
