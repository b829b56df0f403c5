"""A stream of a link as a context manager, as the `WorkerTransport` port gives it out."""

from types import TracebackType
from typing import Protocol

import msgspec

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


class OpenStream(msgspec.Struct, eq=False):
    """See `LinkClient.open`. Leaving it without having entered does nothing."""

    _link: Link
    _request: EngineRequest
    _sink: StreamSink
    _number: int = 0
    """Of the stream on its link; 0 is none's."""

    def __enter__(self) -> None:
        self._number = self._link.begin_stream(self._request, self._sink)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.leave_stream(self._number)
