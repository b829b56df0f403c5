"""A worker transport on which the test plays the workers: it sees what they are asked for, and speaks for them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import trio

from appliance.core.errors import ApplianceError, WorkerLost
from appliance.core.identity import WorkerId
from appliance.core.ports import StreamSink
from appliance.core.requests import EngineRequest, EngineUsage, TokenChunk
from tests.fakes.transport import FakeTransport
from tests.helpers.answers import chunk


class Stage(FakeTransport):
    """Opens streams and lets the test be the workers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[WorkerId, EngineRequest]] = []
        self.sinks: list[StreamSink] = []
        self.open_streams = 0
        self.opened = trio.Event()
        """Set and replaced when a stream is opened."""
        self.dead: set[WorkerId] = set()

    def open(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> AbstractContextManager[None]:
        if worker in self.dead:
            raise WorkerLost(f"no link to {worker}")
        return self._stream(worker, request, sink)

    @contextmanager
    def _stream(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> Iterator[None]:
        self.asked.append((worker, request))
        self.sinks.append(sink)
        self.open_streams += 1
        opened, self.opened = self.opened, trio.Event()
        opened.set()
        try:
            yield
        finally:
            self.open_streams -= 1

    def say(self, text: str, *, last: bool = False) -> None:
        """A step of the stream that was opened last."""
        self.sinks[-1].on_chunk(chunk(text, "stop" if last else None))
        self.sinks[-1].flush()

    def hand_over(self, handover: dict[str, Any] | None, *, stream: int = -1) -> None:
        """The stream is a prefill, and ends."""
        self.sinks[stream].on_chunk(TokenChunk(1, [0], "length", EngineUsage(3, 1), handover=handover))
        self.sinks[stream].flush()

    def lose(self, error: ApplianceError | None = None) -> None:
        """The stream that was opened last ends without a last chunk."""
        self.sinks[-1].on_error(error or WorkerLost("the worker was killed"))
