"""A pair of connected byte streams inside one process, with bounded buffers like a socket's."""

import trio
from trio.lowlevel import ParkingLot

from appliance.core.errors import LinkBroken
from appliance.wire.framing import Buffer

DEFAULT_CAPACITY_BYTES = 208 * 1024  # what a unix socket of Linux holds by default


def open_pair(capacity_bytes: int = DEFAULT_CAPACITY_BYTES) -> tuple["PairStream", "PairStream"]:
    """Two ends; each direction holds at most `capacity_bytes`. Use both ends in one trio run."""
    there, back = _Pipe(capacity_bytes), _Pipe(capacity_bytes)
    return PairStream(back, there), PairStream(there, back)


class _Pipe:
    """One direction."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held = bytearray()
        self.closed = False
        self.moved = ParkingLot()  # both sides wait here; whoever changes the pipe wakes all

    def close(self) -> None:
        self.closed = True
        self.moved.unpark_all()


class PairStream:
    """One end of a pair; a `ByteStream`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    async def receive(self) -> Buffer:
        """See `ByteStream`."""
        await trio.lowlevel.checkpoint()
        pipe = self._incoming
        while not pipe.held and not pipe.closed:
            await pipe.moved.park()  # no deadline: the peer decides when to speak; links have heartbeats
        if self._closed:
            raise LinkBroken("cannot read: the link is closed")
        data, pipe.held = pipe.held, bytearray()
        pipe.moved.unpark_all()
        return data

    def send_now(self, data: Buffer) -> int:
        """See `ByteStream`."""
        pipe = self._outgoing
        if pipe.closed:
            raise LinkBroken("cannot send: the peer closed the link")
        count = min(len(data), pipe.capacity_bytes - len(pipe.held))
        if count > 0:
            pipe.held += data[:count]
            pipe.moved.unpark_all()
        return count

    async def wait_sendable(self) -> None:
        """See `ByteStream`."""
        await trio.lowlevel.checkpoint()
        pipe = self._outgoing
        while len(pipe.held) >= pipe.capacity_bytes and not pipe.closed:
            await pipe.moved.park()  # the caller bounds this wait
        if pipe.closed:
            raise LinkBroken("cannot send: the peer closed the link")

    def close(self) -> None:
        """See `ByteStream`. What was sent before stays readable for the peer."""
        self._closed = True
        self._incoming.close()
        self._outgoing.close()
