"""Client side of the proxy: one HTTP exchange at a time on a connection to a unix socket."""

import httptools
import trio

from appliance.core.errors import ApplianceError

_RECEIVE_BYTES = 64 * 1024


class UpstreamLost(Exception):
    """The control app closed the connection or sent no HTTP."""


class UpstreamRefused(ApplianceError):
    """The control app cannot be reached."""

    code, status, retryable = "control_unavailable", 503, True


class UpstreamConnection:
    """One connection to the control app. After `send`, call `receive` until `complete`; then it can be used again.

    The methods named `on_...` are called by httptools.
    """

    def __init__(self, sock: trio.SocketStream) -> None:
        self._sock = sock
        self._http = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._stays_open = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.rest = b""
        """Bytes behind a 101, of the other protocol."""
        self.idle_since = 0.0

    @classmethod
    async def open(cls, path: str) -> "UpstreamConnection":
        """Connect. Raises `UpstreamRefused`."""
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await sock.connect(path)
        except OSError:
            sock.close()
            raise UpstreamRefused("the control service is not available", retry_after_s=1) from None
        except BaseException:
            sock.close()
            raise
        return cls(trio.SocketStream(sock))

    @property
    def reusable(self) -> bool:
        """The last answer ended and both sides keep the connection open."""
        return self.complete and self.status != 101 and self._stays_open

    async def send(self, data: bytes) -> None:
        """Send a whole request. Raises `UpstreamLost`. Cancelled half-way, the connection is of no more use."""
        self._http = httptools.HttpResponseParser(self)
        self._body = []
        self.head_complete = self.complete = False
        self.status = 0
        self.headers = []
        await self.send_raw(data)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes of the other protocol. Raises `UpstreamLost`."""
        try:
            await self._sock.send_all(data)
        except trio.BrokenResourceError:
            raise UpstreamLost("closed while sending") from None

    async def receive(self) -> bytes:
        """Wait for more of the answer; returns what came of the body, maybe nothing. Raises `UpstreamLost`.

        Cancelling loses nothing. The deadline is the caller's.
        """
        data = await self.receive_raw()
        if not data and (not self.head_complete or not self._ends_with_connection()):
            raise UpstreamLost("closed before the end of its answer")
        if not data:
            self.complete = True
            return b""
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self.rest = data[stop.args[0] :]
            self.complete = True
        except httptools.HttpParserError:
            raise UpstreamLost("not an HTTP answer") from None
        body = b"".join(self._body)
        self._body.clear()
        return body

    async def receive_raw(self) -> bytes:
        """The next bytes as they are; empty at the end."""
        try:
            return bytes(await self._sock.receive_some(_RECEIVE_BYTES))
        except trio.BrokenResourceError:
            return b""

    def close(self) -> None:
        """Close at once."""
        self._sock.socket.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._http.get_status_code()
        self.head_complete = self.status >= 200 or self.status == 101
        self._stays_open = self._http.should_keep_alive()
        if not self.head_complete:
            self.headers = []  # an interim answer

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.head_complete

    def _ends_with_connection(self) -> bool:
        names = [name for name, _ in self.headers]
        return b"content-length" not in names and b"transfer-encoding" not in names
