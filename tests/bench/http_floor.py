"""Prints the listener's CPU cost per short request and per streamed event: `python -m tests.bench.http_floor`.

The server runs in its own process and reports its own CPU time, so the load generator's share does not count.
"""

import multiprocessing
import resource
import socket
import time
from multiprocessing.connection import Connection

import trio

from appliance.core.settings import HttpSettings
from appliance.web.exchange import Exchange, Handler
from appliance.web.listener import Listener

CLIENTS = 16
REQUESTS = 32_000
STREAMS = 64
EVENTS = 500
EVENT = b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","choices":[{"delta":{"content":"word"}}]}\n\n'
SHORT = (
    b"POST /short HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n"
    b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
)


async def short(exchange: Exchange) -> None:
    """The cheapest answer."""
    exchange.respond(200, b'{"ok":true}')


async def streamed(exchange: Exchange) -> None:
    """One flush per event, from a loop, as the pump does it."""
    exchange.start_stream()
    for _ in range(EVENTS):
        exchange.write(EVENT)
        exchange.flush()
        await trio.lowlevel.checkpoint()
    exchange.end()


def route(_method: str, path: str) -> Handler | None:
    """All paths but one are short."""
    return streamed if path == "/stream" else short


def serve(sock: socket.socket, pipe: Connection) -> None:
    """Server process: answers each message on the pipe with the CPU seconds used so far."""

    async def main() -> None:
        listener = Listener([sock], route, HttpSettings(), fallback=short)
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            while await trio.to_thread.run_sync(pipe.recv):
                usage = resource.getrusage(resource.RUSAGE_SELF)
                pipe.send((usage.ru_utime, usage.ru_stime))
            nursery.cancel_scope.cancel()

    trio.run(main)


def ask_short(port: int) -> None:
    """Short requests on keep-alive connections, one after the other on each."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for _ in range(REQUESTS // CLIENTS):
        for client in clients:
            client.sendall(SHORT)
        for client in clients:
            client.recv(65536)
    for client in clients:
        client.close()


def ask_streams(port: int) -> None:
    """Streams that run at the same time; each is read to its end."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(STREAMS)]
    for client in clients:
        client.sendall(b"GET /stream HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    for client in clients:
        while client.recv(1 << 20):
            pass
        client.close()


def main() -> None:
    """Run both cases and print microseconds of server CPU."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(sock, theirs))
    process.start()
    port = sock.getsockname()[1]

    def cpu() -> tuple[float, float]:
        ours.send(True)
        used: tuple[float, float] = ours.recv()
        return used

    for name, ask, count in (
        ("short request", ask_short, REQUESTS),
        ("streamed event", ask_streams, STREAMS * EVENTS),
    ):
        user, system = cpu()
        start = time.perf_counter()
        ask(port)
        took = time.perf_counter() - start
        user_after, system_after = cpu()
        user, system = (user_after - user) / count * 1e6, (system_after - system) / count * 1e6
        print(f"{name}: {user + system:.1f} us CPU (user {user:.1f}, system {system:.1f}), {count / took:.0f}/s")
    ours.send(False)
    process.join(10)


if __name__ == "__main__":
    main()
