"""One client connection: reads requests and has them answered one after the other.

One task for its whole life. Hang-ups and room to send are reported by the watcher, deadlines by the listener's tick, so
a request costs one wait, one receive and one send. While a handler runs nothing is read: requests that a client sends
ahead stay with the kernel, but for those that came in one read.
"""

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, Protocol

import trio

from appliance.core.errors import ApplianceError
from appliance.core.settings import HttpSettings
from appliance.web.awake import AWAKE
from appliance.web.errors import ClientStalled, Rendered, RequestTimeout
from appliance.web.exchange import Exchange
from appliance.web.heads import CONTINUE
from appliance.web.limits import HttpLimits
from appliance.web.outbox import Outbox
from appliance.web.parser import Phase, RequestParser
from appliance.web.patience import Patience
from appliance.web.request import HttpRequest
from appliance.web.tls import TlsCodec
from appliance.web.watcher import SocketWatcher

RECEIVE_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER 0: unsent bytes are dropped, the client sees a reset
_IDLE = Phase.IDLE  # members of an enum are found slowly
_YIELD_EVERY = 16  # requests of one read that may be answered before other tasks get a turn


class Host(Protocol):
    """What a connection needs of its listener."""

    settings: HttpSettings
    limits: HttpLimits
    watcher: SocketWatcher
    now: Callable[[], float]
    date_line: bytes
    draining: bool
    closing: bool
    render: Callable[[ApplianceError, str], Rendered]

    async def answer(self, exchange: Exchange) -> None:
        """Run the handler and see to some answer; raises only `trio.Cancelled`."""


class Connection:
    """Owns an accepted, non-blocking socket; closes it when `run` ends."""

    __slots__ = (
        "_ended",
        "_exchange",
        "_fd",
        "_host",
        "_hung_up",
        "_parser",
        "_patience",
        "_raw",
        "_readable",
        "_reader",
        "_scope",
        "_sock",
        "_tls",
        "outbox",
    )

    def __init__(self, host: Host, sock: socket.socket, peer: str, tls: TlsCodec | None) -> None:
        settings = host.settings
        self._host = host
        self._sock = sock
        self._fd = sock.fileno()
        self._tls = tls
        self._parser = RequestParser(peer, host.limits, int(settings.body_limit_mb * 1e6))
        self._scope = trio.CancelScope()
        self.outbox = Outbox(
            sock,
            tls,
            host.watcher,
            self._scope,
            limit_bytes=settings.send_buffer_bytes,
            stall_s=settings.send_stall_s,
        )
        self._exchange: Exchange | None = None
        self._patience = Patience(host.limits)
        self._hung_up = False
        self._ended = False  # the scope was cancelled, or has a deadline
        self._raw = False
        self._readable = False  # something may have come since the last receive
        self._reader: trio.lowlevel.Task | None = None  # waits for that

    async def run(self) -> None:
        """Serve until either side ends the connection. Cancelling closes it at once, hard if an answer is under way."""
        self._host.watcher.add(self._fd, self)
        try:
            with self._scope:
                if self._tls is None or await self._shake_hands(self._tls):
                    await self._serve()
        except (OSError, ssl.SSLError, ClientStalled):
            pass  # the client is gone or broke the TLS rules: there is no one to tell
        finally:
            self._close()

    # What the watcher and the listener call.

    def on_readable(self) -> None:
        """There is something to receive."""
        self._readable = True
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader, AWAKE)

    def on_writable(self) -> None:
        """The kernel takes bytes again."""
        self.outbox.on_writable()

    def on_hangup(self, *, gone: bool) -> None:
        """The client closed its sending side, or (`gone`) the whole connection.

        A closed sending side nearly always means that the client has gone, and an engine must not go on for it. Those
        few that close it after the request and still read (`nc -N`) get their answer if it starts soon.
        """
        self._hung_up = True
        if self._exchange is None or (self._raw and not gone):
            return  # the reading side sees it by itself
        if gone or self._exchange.started:
            self.outbox.break_off()
        else:
            self._ended = True
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._host.limits.half_close_s)

    def check_deadlines(self, now: float) -> None:
        """Cut the client off if it is too slow in sending or in taking."""
        if now >= self.outbox.deadline:
            self.outbox.break_off()
        elif now >= self._patience.deadline:
            if self._parser.phase is not _IDLE and not self._parser.error:
                self._send_error(RequestTimeout("cannot take the request: it arrived too slowly"))
            self._end()

    def close_if_idle(self) -> None:
        """Close now unless a request is arriving or running; that one's answer will say that it is the last."""
        if self._patience.idle and self._parser.phase is _IDLE and self._exchange is None:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._scope.cancel()

    # Reading.

    async def _serve(self) -> None:
        host, parser = self._host, self._parser
        # Of a new connection it is mostly there already; over TLS it may have come with the end of the handshake.
        data = self._receive() if self._tls is None else self._decrypt(self._tls, b"")
        while True:
            while data is None:
                self._patience.wait(parser, host.now(), host.settings.idle_s)
                await self._until_readable()
                data = self._receive()
            if not data or self.outbox.broken or (self._ended and self._scope.cancel_called):
                return
            parser.feed(data)
            data = None
            if parser.requests and not await self._answer_all():
                return
            if parser.error is not None:
                await self._refuse(parser.error)
                return
            if host.closing and parser.phase is _IDLE:
                return
            if parser.wants_continue:
                parser.wants_continue = False
                self.outbox.send(CONTINUE)

    async def _until_readable(self) -> None:
        """Return when there may be something to receive. Cancelling loses nothing."""
        if self._readable:
            await trio.lowlevel.checkpoint()
        else:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up_reading)

    def _give_up_reading(self, _: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _receive(self) -> bytes | None:
        """Plain bytes; empty at the end; None when there are none yet."""
        data = self._receive_raw()
        return data if self._tls is None or not data else self._decrypt(self._tls, data)

    def _receive_raw(self) -> bytes | None:
        """What the socket has; empty at the end; None when that is nothing yet."""
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._readable = False
            return None
        # An arrival is reported once: what a full receive left, or an end that came with the bytes, will not be again.
        self._readable = len(data) == RECEIVE_BYTES or self._hung_up
        return data

    async def _next_raw(self) -> bytes:
        """Wait for bytes as the client sent them; empty at the end. Cancelling loses nothing."""
        while True:
            await self._until_readable()
            data = self._receive_raw()
            if data is not None:
                return data

    def _decrypt(self, tls: TlsCodec, data: bytes) -> bytes | None:
        plain = tls.decrypt(data)
        self.outbox.send_raw(tls.outgoing())
        return plain or (b"" if tls.ended else None)

    async def _shake_hands(self, tls: TlsCodec) -> bool:
        self._patience.deadline = trio.current_time() + self._host.limits.head_s
        while True:
            data = await self._next_raw()
            if not data:
                return False
            try:
                done = tls.shake_hands(data)
            finally:
                self.outbox.send_raw(tls.outgoing())  # the alert too, when it failed
            if done:
                return True

    # Answering.

    async def _answer_all(self) -> bool:
        """Answer the requests that have arrived, in order. False: the connection is at its end."""
        parser = self._parser
        self._patience.rest()
        served = 0
        while parser.requests:
            request = parser.requests.popleft()
            if not await self._answer(request):
                return False
            if request.upgrade:
                parser.resume()  # no other protocol was spoken: what follows is HTTP
            served += 1
            if served % _YIELD_EVERY == 0:
                await trio.lowlevel.checkpoint()
        return True

    async def _answer(self, request: HttpRequest) -> bool:
        host, outbox = self._host, self.outbox
        keep_alive = request.keep_alive and not host.draining
        exchange = Exchange(self, outbox, request, host.date_line, keep_alive)
        self._exchange = exchange
        if self._hung_up:
            self.on_hangup(gone=False)
        await host.answer(exchange)
        if outbox.pending:
            await outbox.drained()
        self._exchange = None
        return exchange.keep_alive and not outbox.broken

    def _send_error(self, error: ApplianceError) -> None:
        """Answer what is no whole request, as the last thing on this connection."""
        status, body, headers = self._host.render(error, "")
        request = HttpRequest("GET", "", keep_alive=False)
        exchange = Exchange(self, self.outbox, request, self._host.date_line, keep_alive=False)
        exchange.respond(status, body, headers=headers)

    async def _refuse(self, error: ApplianceError) -> None:
        """Answer, then read and drop for a while: closing on unread bytes would reset the answer away."""
        self._send_error(error)
        await self.outbox.drained()
        self._sock.shutdown(socket.SHUT_WR)
        self._patience.deadline = trio.current_time() + self._host.limits.linger_s
        while await self._next_raw():
            pass

    # Another protocol.

    def take_over(self) -> None:
        """From now on the handler reads the connection itself, through `receive`."""
        self._raw = True

    async def receive(self) -> bytes:
        """The next bytes of the other protocol; empty at the end. Cancelling loses nothing.

        No deadline: the protocol on top has its own idea of silence, and a lost client is reported by the kernel.
        """
        if self._parser.rest:
            data, self._parser.rest = self._parser.rest, b""
            return data
        while True:
            await self._until_readable()
            try:
                received = self._receive()
            except OSError:
                return b""
            if received is not None:
                return received

    def _close(self) -> None:
        """Close the socket; hard when an answer was cut short, so that no client takes it for whole."""
        self._host.watcher.forget(self._fd)
        exchange, self._exchange = self._exchange, None
        cut_short = self.outbox.broken or (exchange is not None and (not exchange.finished or self.outbox.pending > 0))
        self.outbox.close()
        with suppress(OSError):
            if cut_short:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            elif self._tls is not None:
                self._sock.send(self._tls.goodbye())
        self._sock.close()
