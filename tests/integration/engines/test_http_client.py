"""The client of foreign servers on real sockets: reuse, disconnects, servers that misbehave."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from appliance.core.errors import EngineFailed, WorkerTimeout
from appliance.engines.http.address import parse_address
from appliance.engines.http.client import HttpClient
from appliance.engines.http.connection import ServerLost
from appliance.engines.http.sse import SseReader

Talk = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[HttpClient]:
    """A client of a server that treats each connection with `talk`."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, [listener])
        port = listener.socket.getsockname()[1]
        client = HttpClient(parse_address(f"http://127.0.0.1:{port}/base"))
        with trio.fail_after(10):
            yield client
        await client.close()
        nursery.cancel_scope.cancel()


async def read_request(stream: trio.SocketStream) -> bytes:
    """One request without pipelining; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await stream.receive_some(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += await stream.receive_some(65536)
    return head + b"\r\n\r\n" + body


async def test_connections_are_used_again() -> None:
    opened: list[bytes] = []

    async def talk(stream: trio.SocketStream) -> None:
        opened.append(b"")
        while request := await read_request(stream):
            opened[-1] += request
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with talking(talk) as client:
        for _ in range(3):
            answer = await client.request("POST", "/v1/x", {"a": 1}, deadline_s=5)
            assert (answer.status, answer.json()) == (200, {})
    assert len(opened) == 1
    assert opened[0].count(b"POST /base/v1/x HTTP/1.1") == 3
    assert b'{"a":1}' in opened[0]


async def test_a_connection_that_died_while_idle_is_replaced() -> None:
    connections = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()

    async with talking(talk) as client:
        for _ in range(3):
            assert (await client.request("GET", "/", deadline_s=5)).ok
            await trio.testing.wait_all_tasks_blocked()
    assert connections == 3


async def test_leaving_a_stream_early_disconnects() -> None:
    gone = trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        await read_request(stream)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head + b"b\r\ndata: {}\n\n\n\r\n")
        assert await stream.receive_some(1) == b""
        gone.set()

    async with talking(talk) as client:
        async with client.stream("POST", "/", {}) as answer:
            assert answer.is_event_stream
            assert await answer.read_events(SseReader()) == [b"{}"]
        await gone.wait()


async def test_events_end_with_the_body() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_request(stream)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"  # ends with the connection
        await stream.send_all(head + b"data: 1\n\ndata: 2\n\n")
        await stream.aclose()

    async with talking(talk) as client, client.stream("GET", "/") as answer:
        reader, events = SseReader(), []
        while (found := await answer.read_events(reader)) is not None:
            events += found
        assert events == [b"1", b"2"]


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-"],
)
async def test_a_server_that_breaks_off_is_lost(said: bytes) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(said)
        await stream.aclose()

    async with talking(talk) as client:
        with pytest.raises(ServerLost):
            await client.request("GET", "/", deadline_s=5)


async def test_a_silent_server_meets_the_deadline() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with talking(talk) as client:
        with pytest.raises(WorkerTimeout, match=r"0\.05 s"):
            await client.request("GET", "/", deadline_s=0.05)


async def test_an_answer_that_is_no_json_is_the_engines_fault() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")

    async with talking(talk) as client:
        answer = await client.request("GET", "/", deadline_s=5)
        with pytest.raises(EngineFailed, match="no JSON"):
            answer.json()


async def test_a_closed_port_is_said_in_one_line() -> None:
    client = HttpClient(parse_address("http://127.0.0.1:9"))
    with pytest.raises(ServerLost, match=r"cannot reach http://127\.0\.0\.1:9: connection refused"):
        await client.request("GET", "/", deadline_s=5)


async def test_a_server_without_tls_is_no_https_server() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some(10)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with talking(talk) as client:
        secure = HttpClient(parse_address(f"https://127.0.0.1:{client.address.port}"))
        with pytest.raises(ServerLost, match="TLS"):
            await secure.request("GET", "/", deadline_s=5)
