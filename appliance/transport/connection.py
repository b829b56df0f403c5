"""One framed connection: a pump that reads, an outbox that writes, and parts that live and end with them."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from appliance.core.errors import ApplianceError, InternalError, LinkBroken
from appliance.transport.limits import LinkLimits
from appliance.transport.outbox import Outbox
from appliance.wire.framing import Buffer, FrameDecoder, encode
from appliance.wire.streams import ByteStream

LOG = logging.getLogger(__name__)

Part = Callable[[], Awaitable[None]]


class Connection:
    """Both link ends and both bus ends are built on this. Whatever fails in it ends the connection, nothing more."""

    def __init__(self, stream: ByteStream, limits: LinkLimits, refill: Callable[[], None] | None = None) -> None:
        self.outbox = Outbox(stream, limits, refill)
        self.fault: ApplianceError | None = None
        """Why the connection ended; None while it lives and after a cancellation from outside."""
        self._stream = stream
        self._frames = FrameDecoder(limits.max_frame_bytes)
        self._nursery: trio.Nursery | None = None

    def post(self, message: Any) -> None:
        """Send a message, now or as soon as the peer takes it. Never blocks; a fault ends the connection later."""
        self.outbox.post(encode(message))

    def start(self, part: Part) -> None:
        """Run `part` as long as the connection lives. Only to be called from inside `run`."""
        if self._nursery is None:
            raise InternalError("cannot start a part of a connection that does not run")
        self._nursery.start_soon(self._guard, part)

    def end(self, fault: ApplianceError) -> None:
        """End the connection; the first reason is kept."""
        if self.fault is None:
            self.fault = fault
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def run(self, receive: Callable[[list[Buffer]], None], *parts: Part) -> ApplianceError:
        """Read until the end, and say why it ended. `receive` gets all frames of one read; raising ends the connection.

        `parts` run beside the pump. Cancelling closes the stream.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.start(lambda: self._pump(receive))
                self.start(self.outbox.run)
                for part in parts:
                    self.start(part)
                if self.fault is not None:  # it was ended before it ran
                    nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            self._stream.close()
        return self.fault or LinkBroken("the link ended")

    async def _pump(self, receive: Callable[[list[Buffer]], None]) -> None:
        read, cut = self._stream.receive, self._frames.feed
        while data := await read():
            receive(cut(data))
        raise LinkBroken("the peer left in the middle of a frame" if self._frames.mid_frame else "the peer left")

    async def _guard(self, part: Part) -> None:
        """Turn a part's exception into the end of the connection."""
        try:
            await part()
        except ApplianceError as fault:
            self.end(fault)
        except Exception:
            LOG.exception("connection ended by a fault of ours")
            self.end(InternalError("a fault of ours ended the link"))
