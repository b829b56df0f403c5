"""The sending side of one connection: direct non-blocking sends, a buffer for what the kernel refuses."""

import socket
from math import inf

import trio

from appliance.web.errors import ClientStalled
from appliance.web.tls import TlsCodec
from appliance.web.watcher import SocketWatcher

_SEND_BYTES = 256 * 1024  # one send of a long buffer; more than a socket buffer takes anyway


class Outbox:
    """Sends bytes in order. Nothing here blocks or raises but `drained`.

    A client that is more than `limit_bytes` behind when another piece comes, or that takes nothing for `stall_s`, is
    cut off. One piece may be larger than the limit: it is in memory already, and a client cannot help its size.
    """

    __slots__ = (
        "_buffer",
        "_emptied",
        "_fd",
        "_limit_bytes",
        "_scope",
        "_sock",
        "_stall_s",
        "_tls",
        "_watcher",
        "broken",
        "deadline",
    )

    def __init__(
        self,
        sock: socket.socket,
        tls: TlsCodec | None,
        watcher: SocketWatcher,
        scope: trio.CancelScope,
        *,
        limit_bytes: int,
        stall_s: float,
    ) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._tls = tls
        self._watcher = watcher
        self._scope = scope
        self._limit_bytes = limit_bytes
        self._stall_s = stall_s
        self._buffer = bytearray()
        self._emptied: trio.Event | None = None
        self.broken = False
        """The client is gone or was cut off; sends do nothing."""
        self.deadline = inf
        """When the client counts as stalled, on trio's clock."""

    @property
    def pending(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self._buffer)

    def send(self, data: bytes) -> None:
        """Send plain bytes, behind what is buffered."""
        if self._buffer and len(self._buffer) > self._limit_bytes:
            self.break_off()
        elif self._tls is None:
            self.send_raw(data)
        elif not self.broken:
            self.send_raw(self._tls.encrypt(data))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are: already encrypted when the connection is."""
        if self.broken or not data:
            return
        if self._buffer:
            self._buffer += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.break_off()
            return
        if sent < len(data):
            self._buffer += memoryview(data)[sent:]
            self.deadline = trio.current_time() + self._stall_s
            self._watcher.want_room(self._fd)

    def on_writable(self) -> None:
        """Send on from the buffer until it is empty or the kernel is full."""
        buffer = self._buffer
        while buffer and not self.broken:
            try:
                with memoryview(buffer) as view, view[:_SEND_BYTES] as part:
                    sent = self._sock.send(part)
            except BlockingIOError:
                return
            except OSError:
                self.break_off()
                return
            del buffer[:sent]
            self.deadline = trio.current_time() + self._stall_s
        if not buffer:
            self.deadline = inf
            self._wake()

    async def drained(self) -> None:
        """Return when everything is with the kernel. Raises `ClientStalled`. Cancelling loses nothing.

        The deadline is the stall rule's: the listener's tick breaks the connection off.
        """
        while self._buffer and not self.broken:
            if self._emptied is None:
                self._emptied = trio.Event()
            await self._emptied.wait()
        if self.broken:
            raise ClientStalled("the client is gone or took no data for too long")

    def break_off(self) -> None:
        """Give the client up: nothing more is sent, and the connection's task is cancelled."""
        if not self.broken:
            self.broken = True
            self._buffer = bytearray()
            self.deadline = inf
            self._scope.cancel()
            self._wake()

    def close(self) -> None:
        """The socket is about to be closed: late sends must not reach whoever gets its descriptor next."""
        self.broken = True
        self._wake()

    def _wake(self) -> None:
        if self._emptied is not None:
            self._emptied.set()
            self._emptied = None
