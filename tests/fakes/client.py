"""A client connection that records what an answer sends; `stall` makes its kernel buffer full."""

from collections.abc import Sequence

import trio

from appliance.core.errors import ApplianceError


class Gone(ApplianceError):
    """The client has gone."""


class RecordingClient:
    """Keeps the promises of `web.Exchange`, without a socket."""

    def __init__(self) -> None:
        self.status = 0
        self.content_type = ""
        self.sends: list[bytes] = []
        self.ended = False
        self.stalled = False
        self.stall_after_answer = False
        self.broken = False
        self.drains = 0
        self._queue = b""
        self._unblocked = trio.Event()

    @property
    def body(self) -> bytes:
        """Everything sent."""
        return b"".join(self.sends)

    @property
    def pending(self) -> int:
        return 1 if self.stalled else 0

    def respond(self, status: int, body: bytes) -> None:
        assert self.status == 0
        self.status, self.content_type, self.ended = status, "application/json", True
        self.sends.append(body)
        self.stalled = self.stall_after_answer

    def start_stream(
        self, status: int = 200, content_type: str = "text/event-stream", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        assert self.status == 0
        self.status, self.content_type = status, content_type

    def write(self, data: bytes) -> None:
        if not self.ended:
            self._queue += data

    def flush(self) -> None:
        if self._queue:
            self.sends.append(self._queue)
            self._queue = b""

    def end(self) -> None:
        self.flush()
        self.ended = True

    async def drained(self) -> None:
        if self.broken:
            raise Gone("the client has gone")
        if self.stalled:
            self.drains += 1
            await self._unblocked.wait()

    def unblock(self) -> None:
        self.stalled = False
        self._unblocked.set()


class NullClient:
    """Takes everything and keeps nothing, for benchmarks."""

    pending = 0
    broken = False

    def respond(self, status: int, body: bytes) -> None: ...
    def start_stream(
        self, status: int = 200, content_type: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> None: ...
    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def end(self) -> None: ...
    async def drained(self) -> None: ...
