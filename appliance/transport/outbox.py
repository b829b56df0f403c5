"""The sending half of a link: direct sends, a bounded backlog when the peer is slow, a deadline when it stalls."""

from collections import deque
from collections.abc import Callable

import trio
from trio.lowlevel import ParkingLot

from appliance.core.errors import LinkBroken
from appliance.transport.limits import LinkLimits
from appliance.wire.framing import Buffer
from appliance.wire.streams import ByteStream

BATCH_BYTES = 256 * 1024  # waiting frames are joined up to this size, so that a backlog is not sent byte by byte


class Outbox:
    """Sends frames in order. `post` tries at once; what does not fit is sent by `run`.

    `post` never raises: a failed send ends the link through `run`. `refill`, when given, is called by `run` before
    it sleeps, so that output gathered during one pass of the scheduler goes out in one frame.
    """

    def __init__(self, stream: ByteStream, limits: LinkLimits, refill: Callable[[], None] | None = None) -> None:
        self.backlog_bytes = 0
        self._stream, self._send_now = stream, stream.send_now
        self._limits = limits
        self._refill = refill
        self._queue: deque[Buffer] = deque()
        self._fault: LinkBroken | None = None
        self._awake = False
        self._ended = False
        self._sleeper = ParkingLot()
        self._waiters = ParkingLot()

    def post(self, frame: bytes) -> None:
        """Send a frame now or queue what is left of it. After a fault frames are dropped."""
        if self._fault is not None:
            return
        rest: Buffer = frame
        if not self._queue:
            try:
                sent = self._send_now(frame)
            except LinkBroken as fault:
                sent = self._note(fault)
            if sent == len(frame):
                return
            rest = memoryview(frame)[sent:]
        self._queue.append(rest)
        self.backlog_bytes += len(rest)
        if self.backlog_bytes > self._limits.outbox_limit_bytes:
            self._fault = LinkBroken(f"the peer is {self.backlog_bytes} bytes behind")
        self.wake()

    def wake(self) -> None:
        """Let `run` ask for a refill in the next pass of the scheduler."""
        self._awake = True
        self._sleeper.unpark()

    async def room(self) -> None:
        """Return when the backlog is under its high-water mark. A checkpoint; `run` bounds it by the stall deadline."""
        await trio.lowlevel.checkpoint()
        while self.backlog_bytes > self._limits.high_water_bytes and not self._ended:
            await self._waiters.park()

    async def sent(self) -> None:
        """Return when all was handed to the stream, or the link ended. A checkpoint; `run` bounds it likewise."""
        await trio.lowlevel.checkpoint()
        while (self._awake or self.backlog_bytes) and not self._ended:
            await self._waiters.park()

    async def run(self) -> None:
        """Send the backlog for as long as the link lives. Raises `LinkBroken` for a lost, stalled or slow peer."""
        try:
            while True:
                await self._turn()
        finally:
            self._ended = True
            self._waiters.unpark_all()

    async def _turn(self) -> None:
        self._awake = False
        if self._refill is not None:
            self._refill()
        if self._fault is not None:
            raise self._fault
        if self._queue:
            await self._send_some()  # and ask for a refill again, which may have waited for an empty queue
        elif not self._awake:
            self._waiters.unpark_all()
            await self._sleeper.park()  # no deadline: sleeps until there is something to send

    async def _send_some(self) -> None:
        """Wait until the peer takes bytes, and send what it takes."""
        with trio.move_on_after(self._limits.stall_s) as patience:
            while not self._send_batch():
                await self._stream.wait_sendable()
        if patience.cancelled_caught:
            raise LinkBroken(f"the peer took no byte for {self._limits.stall_s:g} s")
        if self.backlog_bytes <= self._limits.high_water_bytes:
            self._waiters.unpark_all()

    def _send_batch(self) -> int:
        pieces = [self._queue.popleft()]
        size = len(pieces[0])
        while self._queue and size + len(self._queue[0]) <= BATCH_BYTES:
            pieces.append(self._queue.popleft())
            size += len(pieces[-1])
        batch = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            sent = self._send_now(batch)
        except LinkBroken as fault:
            sent = self._note(fault)
        if sent < len(batch):
            self._queue.appendleft(memoryview(batch)[sent:])
        self.backlog_bytes -= sent
        if self._fault is not None:
            raise self._fault
        return sent

    def _note(self, fault: LinkBroken) -> int:
        """A send has failed: `run` is to say so. Nothing was sent."""
        self._fault = fault
        self.wake()
        return 0
