"""Forwards single requests to the control app on a unix socket; the client's connection stays with the listener."""

from collections import deque
from contextlib import suppress

import trio

from appliance.web.errors import ClientStalled
from appliance.web.exchange import Exchange, RawStream
from appliance.web.request import HttpRequest
from appliance.web.upstream import UpstreamConnection, UpstreamLost, UpstreamRefused

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_DROPPED = HOP_BY_HOP | frozenset((b"content-length", b"expect", b"forwarded", b"x-real-ip"))
_OWN_ANSWER_HEADERS = HOP_BY_HOP | frozenset((b"content-length", b"content-type", b"date", b"server", b"x-request-id"))
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
_IDLE_LIMIT = 8
_IDLE_S = 15.0  # less than the control app's keep-alive time, so that a reused connection is mostly still open
_HEAD_S = 60.0  # the control app answers from memory; a scale or an apply may take seconds


class UnixProxy:
    """A `Handler` that lets the control app on `socket_path` answer. Connections to it are kept and used again."""

    def __init__(self, socket_path: str, *, secure: bool = False) -> None:
        self._path = socket_path
        self._scheme = b"https" if secure else b"http"
        self._idle: deque[UpstreamConnection] = deque()

    async def __call__(self, exchange: Exchange) -> None:
        """Forward one request. Raises `UpstreamRefused` (503) when the control app does not answer."""
        connection, first = await self._ask_anyone(exchange.request)
        try:
            await self._pass_on(exchange, connection, first)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._keep(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _ask_anyone(self, request: HttpRequest) -> tuple[UpstreamConnection, bytes]:
        """Ask on an idle connection, or on a new one; only what may be done twice goes to one that may be closed."""
        if request.method in _REPEATABLE and not request.upgrade:
            idle = self._take_idle()
            if idle is not None:
                with suppress(UpstreamLost):
                    return idle, await self._ask(idle, request)
        connection = await UpstreamConnection.open(self._path)
        try:
            return connection, await self._ask(connection, request)
        except UpstreamLost:
            raise UpstreamRefused("the control service is not available", retry_after_s=1) from None

    async def _ask(self, connection: UpstreamConnection, request: HttpRequest) -> bytes:
        """Send the request, wait for the head of the answer; returns what came of its body."""
        body = b""
        try:
            with trio.fail_after(_HEAD_S):
                await connection.send(_request_bytes(request, self._scheme))
                while not connection.head_complete:
                    body += await connection.receive()
        except trio.TooSlowError:
            connection.close()
            raise UpstreamRefused("the control service does not answer", retry_after_s=1) from None
        except BaseException:
            connection.close()
            raise
        return body

    async def _pass_on(self, exchange: Exchange, connection: UpstreamConnection, body: bytes) -> None:
        headers, content_type = _answer_headers(connection.headers)
        if connection.status == 101:
            await _splice(exchange.switch_protocols(_upgrade_headers(connection.headers)), connection)
            return
        if connection.complete:
            exchange.respond(connection.status, body, content_type, headers)
            return
        exchange.start_stream(connection.status, content_type, headers)
        try:
            while True:
                exchange.write(body)
                if connection.complete:
                    break
                exchange.flush()
                await exchange.drained()
                body = await connection.receive()
        except UpstreamLost:
            exchange.abort()
            return
        exchange.end()

    def _take_idle(self) -> UpstreamConnection | None:
        oldest = trio.current_time() - _IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    def _keep(self, connection: UpstreamConnection) -> None:
        connection.idle_since = trio.current_time()
        self._idle.append(connection)
        if len(self._idle) > _IDLE_LIMIT:
            self._idle.popleft().close()


def _request_bytes(request: HttpRequest, scheme: bytes) -> bytes:
    """The request as the control app gets it: own framing, no hop-by-hop header, our `X-Forwarded-*`."""
    # HEAD goes as GET: the listener drops the body, and the answer's parser cannot know that none would come.
    method = "GET" if request.method == "HEAD" else request.method
    target = request.raw_path + (b"?" + request.query.encode("latin-1") if request.query else b"")
    named = {name.strip().lower() for name in request.headers.get(b"connection", b"").split(b",")}
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    for name, value in request.headers.items():
        if name not in _DROPPED and name not in named and not name.startswith(b"x-forwarded-"):
            lines.append(name + b": " + value)
    if b"host" not in request.headers:
        lines.append(b"host: localhost")
    lines.append(b"x-forwarded-for: " + request.peer.encode())
    lines.append(b"x-forwarded-proto: " + scheme)
    if request.upgrade:
        lines.append(b"connection: upgrade")
        lines.append(b"upgrade: " + request.headers.get(b"upgrade", b""))
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d" % len(request.body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


def _answer_headers(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[str, str]], str]:
    passed = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in _OWN_ANSWER_HEADERS
    ]
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    return passed, content_type.decode("latin-1")


def _upgrade_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    own = (b"date", b"server")
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in own]


async def _splice(client: RawStream, upstream: UpstreamConnection) -> None:
    """Copy bytes both ways until either side ends. Waits without deadline: the protocol on top has its own."""

    async def to_upstream() -> None:
        try:
            while data := await client.receive():
                await upstream.send_raw(data)
        except UpstreamLost:
            pass
        nursery.cancel_scope.cancel()

    async def to_client() -> None:
        data = upstream.rest
        try:
            while True:
                client.send(data)
                await client.drained()
                data = await upstream.receive_raw()
                if not data:
                    break
        except ClientStalled:
            pass
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(to_upstream)
        nursery.start_soon(to_client)
