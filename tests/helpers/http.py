"""A listener on loopback and a raw HTTP client, for tests that look at the bytes."""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from appliance.core.settings import HttpSettings
from appliance.web.exchange import Exchange, Handler
from appliance.web.limits import HttpLimits
from appliance.web.listener import Guard, Listener, let_pass
from appliance.web.sockets import bind_public

QUICK = HttpLimits(head_s=0.3, body_s=0.3, linger_s=0.2, half_close_s=0.15, tick_s=0.05)


@dataclass
class Answer:
    """One parsed response."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """Sends bytes as they are, reads one answer at a time. All reads have a deadline."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.stream.send_all(data)

    async def ask(self, data: bytes) -> Answer:
        """Send bytes and read one answer."""
        await self.send(data)
        return await self.read_answer()

    async def read_answer(self, *, bodyless: bool = False) -> Answer:
        """Read one answer to its end, by its framing."""
        head = (await self._until(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        status = int(head[0].split(" ")[1])
        if bodyless or status in (204, 304) or status < 200:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join(await self.read_chunks())
        elif "content-length" in headers:
            body = await self.read_exactly(int(headers["content-length"]))
        else:
            body = await self.read_to_end()
        return Answer(status, headers, body)

    async def read_chunks(self) -> list[bytes]:
        """The chunks of a body, up to the last."""
        chunks = []
        while size := int(await self._until(b"\r\n"), 16):
            chunks.append(await self.read_exactly(size))
            await self._until(b"\r\n")
        await self._until(b"\r\n")
        return chunks

    async def read_head(self) -> bytes:
        """The head of an answer alone."""
        return await self._until(b"\r\n\r\n")

    async def read_chunk(self) -> bytes:
        """One chunk."""
        chunk = await self.read_exactly(int(await self._until(b"\r\n"), 16))
        await self._until(b"\r\n")
        return chunk

    async def read_to_end(self) -> bytes:
        """Everything until the server closes; a reset raises `trio.BrokenResourceError`."""
        while await self._more():
            pass
        data, self._buffer = self._buffer, b""
        return data

    async def is_closed(self) -> bool:
        """The server closes without another byte."""
        try:
            return await self.read_to_end() == b""
        except trio.BrokenResourceError:
            return True

    def close(self) -> None:
        """Close at once."""
        stream = self.stream
        if isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        assert isinstance(stream, trio.SocketStream)
        stream.socket.close()

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not await self._more():
                raise EOFError(f"closed after {self._buffer!r}")
        at = self._buffer.index(mark) + len(mark)
        data, self._buffer = self._buffer[:at], self._buffer[at:]
        return data

    async def read_exactly(self, size: int) -> bytes:
        """That many bytes."""
        while len(self._buffer) < size:
            if not await self._more():
                raise EOFError(f"closed after {len(self._buffer)} of {size} bytes")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def _more(self) -> bool:
        with trio.fail_after(5):
            data = await self.stream.receive_some(65536)
        self._buffer += data
        return bool(data)


@dataclass
class Served:
    """A running listener."""

    listener: Listener
    port: int
    errors: list[BaseException] = field(default_factory=list)
    clients: list[RawClient] = field(default_factory=list)

    async def connect(self) -> RawClient:
        """A new plain connection; closed with the listener."""
        client = RawClient(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(
    handler: Handler | Mapping[str, Handler],
    settings: HttpSettings | None = None,
    limits: HttpLimits = QUICK,
    *,
    tls: ssl.SSLContext | None = None,
    guard: Guard = let_pass,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve one handler, or several by path, on a free loopback port."""
    routes: Callable[[str, str], Handler | None] = (
        (lambda _method, path: handler.get(path)) if isinstance(handler, Mapping) else (lambda _method, _path: handler)
    )
    sockets = bind_public("127.0.0.1", 0)
    errors: list[BaseException] = []
    listener = Listener(
        sockets,
        routes,
        settings or HttpSettings(),
        fallback=options.pop("fallback", answer_nothing_here),
        tls=tls,
        guard=guard,
        limits=limits,
        on_error=lambda error, _exchange: errors.append(error),
        **options,
    )
    port = sockets[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        served = Served(listener, port, errors)
        try:
            yield served
        finally:
            for client in served.clients:
                client.close()
            nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], bool], within_s: float = 2.0) -> None:
    """Wait until a condition holds."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - what is asked has no event
            await trio.sleep(0.005)


async def answer_nothing_here(exchange: Exchange) -> None:
    """Fallback: 404."""
    exchange.respond(404, b'{"error":{}}')


async def echo(exchange: Exchange) -> None:
    """Answers with method, path, query and body."""
    request = exchange.request
    text = f"{request.method} {request.path} {request.query} ".encode() + request.body
    exchange.respond(200, text, "text/plain")


def get(path: str = "/", *lines: str) -> bytes:
    """A GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode()


def post(path: str, body: bytes, *lines: str) -> bytes:
    """A POST request with a length."""
    head = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body
