"""A stream of a link as a context manager, as the `WorkerTransport` port gives it out."""

from types import TracebackType
from typing import Protocol

from appliance.core.ports import StreamSink
from appliance.core.requests import EngineRequest


class Link(Protocol):
    """What a stream needs of its link."""

    def begin_stream(self, request: EngineRequest, sink: StreamSink) -> int:
        """Send the request; the number of its stream."""
        ...

    def leave_stream(self, number: int) -> None:
        """Forget the stream; cancel it when it has not ended."""
        ...


class OpenStream:
    """See `LinkClient.open`. Leaving it without having entered does nothing."""

    __slots__ = ("_link", "_number", "_request", "_sink")

    def __init__(self, link: Link, request: EngineRequest, sink: StreamSink) -> None:
        self._link = link
        self._request = request
        self._sink = sink
        self._number = 0  # of no stream

    def __enter__(self) -> None:
        self._number = self._link.begin_stream(self._request, self._sink)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.leave_stream(self._number)
