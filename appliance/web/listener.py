"""The public port: accepts connections, has them answered, enforces deadlines, drains."""

import logging
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import formatdate
from math import inf

import trio

from appliance.core.errors import ApplianceError, InternalError, Overloaded
from appliance.core.settings import HttpSettings
from appliance.web.accepting import Acceptor
from appliance.web.connection import Connection
from appliance.web.errors import NEUTRAL, ClientStalled, Rendered, find_appliance_error, render_error
from appliance.web.exchange import Exchange, Handler
from appliance.web.limits import HttpLimits
from appliance.web.request import HttpRequest
from appliance.web.tls import TlsCodec
from appliance.web.unpacking import BodyUnpacker
from appliance.web.watcher import SocketWatcher

_LOG = logging.getLogger(__name__)
_SPARE_DESCRIPTORS = 128  # for links, files and the rest of the process
LATE_S = 0.5
"""For connections that the kernel is still setting up when no new ones come any more."""

Route = Callable[[str, str], Handler | None]
"""Method and percent-decoded path to a handler; None leaves the request to the fallback."""
Guard = Callable[[Exchange], bool]
"""Called before any handler. False: it has answered already. May raise an `ApplianceError`, and set `extra_headers`."""
ErrorReport = Callable[[BaseException, Exchange], None]


def log_error(error: BaseException, exchange: Exchange) -> None:
    """Default report of an unexpected exception: one log line with the traceback, without the request's text."""
    request = exchange.request
    _LOG.error("request handler failed: %s %s", request.method, request.path, exc_info=error)


def let_pass(_exchange: Exchange) -> bool:
    """The guard that guards nothing."""
    return True


class Listener:
    """Serves listening sockets until drained or cancelled. It owns them from `run` on and closes them."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        route: Route,
        settings: HttpSettings,
        *,
        fallback: Handler,
        tls: ssl.SSLContext | None = None,
        guard: Guard = let_pass,
        render: Callable[[ApplianceError, str], Rendered] = render_error,
        on_error: ErrorReport = log_error,
        on_done: Callable[[Exchange], None] | None = None,
        on_request: Callable[[HttpRequest], None] | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        self.settings = settings
        self.limits = limits or HttpLimits()
        self.draining = False
        """Answers say that they are the last ones of their connections."""
        self.closing = False
        """Idle connections end."""
        self.date_line = b""
        self.now = trio.current_time
        self.render = render
        self.active = 0
        """Requests that are being answered."""
        self._sockets = sockets
        self._route = route
        self._fallback = fallback
        self._tls = tls
        self._guard = guard
        self._on_error = on_error
        self._on_done = on_done
        self._on_request = on_request
        self._unpacker = BodyUnpacker(int(settings.body_limit_mb * 1e6))
        self._connections: set[Connection] = set()
        self._room = min(self.limits.connections, _descriptor_limit() - _SPARE_DESCRIPTORS)
        self._accepting = trio.CancelScope()
        self._all_closed = trio.Event()
        self._late_s = 0.0
        self.watcher = SocketWatcher()

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve; `started` means accepting. Returns after `drain`. Cancelling closes all connections at once."""
        self.now = trio.lowlevel.current_clock().current_time  # the same, but not looked up at each call
        with self.watcher:
            async with trio.open_nursery() as services:
                self._tick()
                services.start_soon(self.watcher.run)
                services.start_soon(self._keep_time)
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._accept, nursery)
                    task_status.started()
                self._all_closed.set()
                services.cancel_scope.cancel()

    async def drain(self, deadline_s: float, idle_s: float = 0.0) -> None:
        """Stop accepting, close idle connections, let running answers end; cut off the rest after `deadline_s`.

        Idle connections stay for `idle_s` for one more request each: its answer says that it is the last, where closing
        at once could cross the request. Returns when no connection is left. Cancelling it leaves the listener draining.
        """
        self.draining = True
        self._late_s = min(idle_s, LATE_S)
        self._accepting.cancel()
        with trio.move_on_after(deadline_s):
            if idle_s:
                with trio.move_on_after(idle_s):
                    await self._all_closed.wait()
            self.closing = True
            for connection in tuple(self._connections):
                connection.close_if_idle()
            await self._all_closed.wait()
        for connection in tuple(self._connections):
            connection.outbox.break_off()
        await self._all_closed.wait()  # soon: every connection's task is cancelled

    async def answer(self, exchange: Exchange) -> None:
        """Find and run the handler; whatever it does, there is an answer or the connection is broken off."""
        self.active += 1
        request = exchange.request
        if b"traceparent" in request.headers:
            request.join_trace()
        if self._on_request is not None:
            self._on_request(request)
        try:
            if self._guard(exchange):
                handler = self._route(request.method, request.path) or self._fallback
                if b"content-encoding" in request.headers:
                    await self._unpacker.unpack(request)
                await handler(exchange)
            if not exchange.finished:
                raise InternalError("the handler returned before its answer was complete")
        except Exception as error:
            self._answer_error(exchange, error)
        finally:
            self.active -= 1
            if self._on_done is not None:
                self._on_done(exchange)

    def _answer_error(self, exchange: Exchange, error: Exception) -> None:
        known = find_appliance_error(error)
        if isinstance(known, ClientStalled):
            exchange.abort()
            return
        if known is None or isinstance(known, InternalError):
            self._on_error(error, exchange)
            known = InternalError(NEUTRAL)
        if exchange.started and not exchange.rewind():
            exchange.abort()
            return
        status, body, headers = self.render(known, exchange.request.path)
        exchange.respond(status, body, headers=headers)

    async def _accept(self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
        acceptors = [Acceptor(sock, self._welcome) for sock in self._sockets]
        try:
            with self._accepting:
                async with trio.open_nursery() as loops:
                    for acceptor in acceptors:
                        loops.start_soon(acceptor.run)
                    self._connection_nursery = nursery
                    task_status.started()
            for pause_s in (0.0, self._late_s):  # they were let in before we stopped, or were about to be
                if pause_s:
                    await trio.sleep(pause_s)
                for acceptor in acceptors:
                    acceptor.accept_all()
        finally:
            for acceptor in acceptors:
                acceptor.close()

    def _welcome(self, sock: socket.socket, peer: str) -> None:
        if len(self._connections) >= self._room:
            self._turn_away(sock)
            return
        codec = None if self._tls is None else TlsCodec(self._tls)
        connection = Connection(self, sock, peer, codec)
        self._connections.add(connection)
        self._connection_nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        except Exception:
            # A handler that failed while it was being cancelled, or a fault of ours: the other clients must not suffer.
            _LOG.exception("connection failed")
        finally:
            self._connections.discard(connection)

    def _turn_away(self, sock: socket.socket) -> None:
        """Answer without reading, as far as one send goes, and close."""
        status, body, _ = self.render(Overloaded("too many connections"), "")
        head = b"HTTP/1.1 %d Busy\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n" % status
        with suppress(OSError):
            if self._tls is None:
                sock.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        sock.close()

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(self.limits.tick_s)
            self._tick()
            now = trio.current_time()
            for connection in tuple(self._connections):
                connection.check_deadlines(now)

    def _tick(self) -> None:
        self.date_line = b"date: %s\r\n" % formatdate(usegmt=True).encode()


def _descriptor_limit() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft
