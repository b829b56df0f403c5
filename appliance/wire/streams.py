"""What a link needs of a byte stream: the least that keeps a task switch off the path of a token."""

from typing import Protocol

from appliance.wire.framing import Buffer


class ByteStream(Protocol):
    """A reliable stream of bytes in both directions. One task reads, one waits to send; sends may come from any."""

    async def receive(self) -> Buffer:
        """The next bytes, valid until the next call; empty at the end. Raises `LinkBroken`. A cancel loses nothing."""

    def send_now(self, data: Buffer) -> int:
        """Send what fits without waiting; how many bytes that was. Raises `LinkBroken` when the peer is gone."""

    async def wait_sendable(self) -> None:
        """Return when `send_now` may take bytes again. Raises `LinkBroken`. Cancelling loses nothing."""

    def close(self) -> None:
        """End both directions at once. Safe to call twice. A task that waits on the stream gets `LinkBroken`."""
