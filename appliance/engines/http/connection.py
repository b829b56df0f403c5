"""One connection to a server: one exchange at a time, the answer's body in pieces as they arrive."""

import os
import ssl
from collections.abc import Sequence

import httptools
import trio

from appliance.core.errors import WorkerLost
from appliance.engines.http.address import ServerAddress

READ_BYTES = 64 * 1024
BODYLESS = (204, 304)


class ServerLost(WorkerLost):
    """The server cannot be reached, closed the connection, or sent no HTTP; another try may help."""


class HttpConnection:
    """A client connection. After `send`, `read_head` once and `read_some` until it gives nothing.

    The methods named `on_...` are called by httptools.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._framed = False
        self._stays_open = False
        self._heard = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.head_complete = False
        self.complete = False

    @classmethod
    async def open(cls, address: ServerAddress, tls: ssl.SSLContext | None) -> "HttpConnection":
        """Connect. Raises `ServerLost`. Cancelling leaves nothing open."""
        try:
            stream: trio.abc.Stream = await trio.open_tcp_stream(address.host, address.port)
            if tls is not None:
                secured = trio.SSLStream(stream, tls, server_hostname=address.host, https_compatible=True)
                await _shake_hands(secured)
                stream = secured
        except OSError as error:
            raise ServerLost(f"cannot reach {address.url}: {_reason(error)}") from None
        return cls(stream)

    @property
    def reusable(self) -> bool:
        """The last answer ended and both sides keep the connection open."""
        return self.complete and self._framed and self._stays_open

    @property
    def was_silent(self) -> bool:
        """No byte of an answer came since the last `send`: the server had closed an idle connection."""
        return not self._heard

    async def send(self, data: bytes) -> None:
        """Send a whole request. Raises `ServerLost`. Cancelled half-way, the connection is of no more use."""
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._framed, self._heard = [], False, False
        self.status, self.headers = 0, {}
        self.head_complete = self.complete = False
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ServerLost("the server closed the connection") from None

    async def read_head(self) -> None:
        """Wait for status and headers. Raises `ServerLost`."""
        while not self.head_complete:
            await self._read()

    async def read_some(self) -> bytes:
        """The next bytes of the body; empty at its end. Raises `ServerLost` when it was cut off."""
        while not self._body and not self.complete:
            await self._read()
        data = b"".join(self._body)
        self._body.clear()
        return data

    async def close(self) -> None:
        """Close without a good-bye; the server sees a disconnect. Never waits for the network."""
        await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            if self.head_complete and not self._framed:
                self.complete = True  # the end of the connection is the end of the body
                return
            raise ServerLost("the server closed the connection")
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            raise ServerLost("the server answered with something that is no HTTP") from None

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            self.headers = {}
            return
        names: Sequence[str] = ("content-length", "transfer-encoding")
        self._framed = self.status in BODYLESS or any(name in self.headers for name in names)
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.head_complete
        self._stays_open = self._parser.should_keep_alive()


async def _shake_hands(stream: trio.SSLStream[trio.abc.Stream]) -> None:
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        cause = error.__cause__
        raise OSError(
            f"TLS failed: {cause.reason if isinstance(cause, ssl.SSLError) else 'connection closed'}"
        ) from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def _reason(error: OSError) -> str:
    """The system's words for one failed connection, of several when the host has several addresses."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    found = inner if isinstance(inner, OSError) else error
    return os.strerror(found.errno).lower() if found.errno else str(found)
