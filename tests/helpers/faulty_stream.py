"""A byte stream with fault switches around a real one."""

import trio

from appliance.core.errors import LinkBroken
from appliance.wire.framing import Buffer
from appliance.wire.streams import ByteStream


class FaultyStream:
    """Passes everything on until a switch is set. Switches act on what has not been read or sent yet."""

    def __init__(self, inner: ByteStream) -> None:
        self._inner = inner
        self.delay_s = 0.0
        """Received bytes come this much later."""
        self.drop_sends = False
        """Sent bytes vanish."""
        self.stalled = False
        """Nothing comes in, nothing is taken."""
        self.hold_reads = False
        """Nothing comes in; sends work."""
        self.truncate_after: int | None = None
        """The stream ends after so many more received bytes."""
        self.garbage: bytes | None = None
        """Received in place of the next bytes."""
        self._changed = trio.Event()
        self.closed = False

    def change(self, **switches: object) -> None:
        """Set switches and wake a reader that waits."""
        for name, value in switches.items():
            if not hasattr(self, name):
                raise AttributeError(name)
            setattr(self, name, value)
        self._changed.set()
        self._changed = trio.Event()

    def kill(self) -> None:
        """The connection is gone at once, in both directions."""
        self._inner.close()

    async def receive(self) -> Buffer:
        """See `ByteStream`."""
        data = await self._inner.receive()
        while self.stalled or self.hold_reads:
            await self._changed.wait()
        if self.delay_s:
            data = bytes(data)
            await trio.sleep(self.delay_s)
        if self.garbage is not None:
            data, self.garbage = self.garbage, None
        if self.truncate_after is not None:
            data = data[: self.truncate_after]
            self.truncate_after -= len(data)
        return data

    def send_now(self, data: Buffer) -> int:
        """See `ByteStream`."""
        if self.closed:
            raise LinkBroken("closed")
        if self.stalled:
            return 0
        return len(data) if self.drop_sends else self._inner.send_now(data)

    async def wait_sendable(self) -> None:
        """See `ByteStream`."""
        while self.stalled:
            await self._changed.wait()
        await self._inner.wait_sendable()

    def close(self) -> None:
        """See `ByteStream`."""
        self.closed = True
        self._inner.close()
