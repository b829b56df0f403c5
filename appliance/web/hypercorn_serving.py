"""Serves an ASGI app with hypercorn's trio worker inside our own nursery, on sockets that we made.

Hypercorn's own loop is not used: it cannot be given another connection class, and its runner starts processes.
Import this module only where an ASGI app is served; it pulls hypercorn in.
"""

import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import wrap_app

KEEP_ALIVE_S = 30.0
SEND_S = 5.0
GRACE_S = 3.0
BODY_LIMIT_BYTES = 16 << 20


async def serve_asgi(
    app: Any,
    *,
    bind: Sequence[socket.socket],
    keep_alive_s: float = KEEP_ALIVE_S,
    send_s: float = SEND_S,
    grace_s: float = GRACE_S,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on listening sockets, which are closed at the end; `started` means accepting.

    Returns after `stop` is set: idle connections close, running requests get `grace_s`, then the app is told to shut
    down. Cancelling closes everything without grace. A client that does not take a piece within `send_s` is cut off, so
    that the end comes at most that much later.
    """
    config = Config()
    config.keep_alive_timeout = keep_alive_s
    config.graceful_timeout = grace_s
    config.include_server_header = False
    config.errorlog = None
    state: LifespanState = {}
    wrapped = wrap_app(app, BODY_LIMIT_BYTES, "asgi")
    lifespan = Lifespan(wrapped, config, state)
    context = WorkerContext(None)
    connection = partial(BoundedServer, wrapped, config, context, ConnectionState(state.copy()), send_s=send_s)
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        await _serve_connections(connection, bind, context, grace_s, stop, task_status)
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


async def _serve_connections(
    connection: "partial[BoundedServer]",
    bind: Sequence[socket.socket],
    context: WorkerContext,
    grace_s: float,
    stop: trio.Event | None,
    task_status: trio.TaskStatus[None],
) -> None:
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in bind]
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(partial(trio.serve_listeners, connection, listeners, handler_nursery=connections))
            task_status.started()
            if stop is None:
                await trio.sleep_forever()
            else:
                await stop.wait()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + grace_s


class BoundedServer(TCPServer):
    """Hypercorn's connection with a deadline on each send.

    Hypercorn shields sends from cancellation and gives them all the time in the world, so that one client that stops
    reading keeps the server from stopping. To be tried without at each upgrade: the regression test says whether.
    """

    def __init__(self, *args: Any, send_s: float) -> None:
        super().__init__(*args)
        self._send_s = send_s

    async def protocol_send(self, event: Event) -> None:
        """Send whole pieces, shielded so that none is cut in half; a client that takes too long is cut off."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.move_on_after(self._send_s, shield=True) as deadline:
                    await self.stream.send_all(event.data)
                if not deadline.cancelled_caught:
                    return
                await trio.aclose_forcefully(self.stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            await self.protocol.handle(Closed())
