"""Requests forwarded to a real ASGI server on a unix socket, and to scripted ones."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from appliance.web.proxy import UnixProxy
from appliance.web.sockets import bind_unix
from tests.helpers.http import Served, get, post, serving

Script = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def proxied(path: Path, script: Script) -> AsyncIterator[Served]:
    """A listener whose every request goes to a scripted upstream."""
    proxy = UnixProxy(str(path))
    async with trio.open_nursery() as nursery:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bind_unix(path)))
        nursery.start_soon(partial(trio.serve_listeners, script, [listener]))
        async with serving(proxy) as served:
            yield served
        proxy.close()
        nursery.cancel_scope.cancel()


class Mirror:
    """Upstream that answers each request with its own bytes, framed by length; counts connections."""

    def __init__(self, *, requests_per_connection: int = 1000) -> None:
        self.connections = 0
        self._limit = requests_per_connection

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            for _ in range(self._limit):
                seen = await read_request(stream)
                if not seen:
                    return
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-up: 1\r\nkeep-alive: 9\r\n"
                await stream.send_all(head + b"content-length: %d\r\n\r\n" % len(seen) + seen)


async def read_request(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


async def test_headers_are_cleaned_both_ways_and_the_body_is_framed_anew(tmp_path: Path) -> None:
    async with proxied(tmp_path / "c.sock", Mirror()) as served:
        client = await served.connect()
        sent = (
            b"POST /a%2Fb?q=1 HTTP/1.1\r\nhost: me\r\nx-forwarded-for: 6.6.6.6\r\nconnection: keep-alive, x-private\r\n"
            b"x-private: 1\r\nte: trailers\r\nx-mine: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        answer = await client.ask(sent)
        seen = answer.body
        assert seen.startswith(b"POST /a%2Fb?q=1 HTTP/1.1\r\n")
        assert seen.endswith(b"\r\ncontent-length: 3\r\n\r\nabc")
        assert b"x-mine: 2" in seen
        assert b"x-forwarded-for: 127.0.0.1\r\n" in seen
        for dropped in (b"6.6.6.6", b"x-private", b"trailers", b"chunked"):
            assert dropped not in seen
        assert answer.headers["x-up"] == "1"
        assert "keep-alive" not in answer.headers


async def test_upstream_connections_are_reused_and_a_closed_one_is_replaced(tmp_path: Path) -> None:
    mirror = Mirror(requests_per_connection=3)
    async with proxied(tmp_path / "c.sock", mirror) as served:
        client = await served.connect()
        for _ in range(6):
            assert (await client.ask(get("/x"))).status == 200
        assert mirror.connections == 2
        await client.send(b"HEAD /h HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.read_answer(bodyless=True)).status == 200
        assert (await client.ask(post("/p", b"x"))).status == 200


async def test_streamed_answer_passes_piece_by_piece(tmp_path: Path) -> None:
    go_on = trio.Event()

    async def drip(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        await stream.send_all(b"3\r\ntwo\r\n0\r\n\r\n")

    async with proxied(tmp_path / "c.sock", drip) as served:
        client = await served.connect()
        await client.send(get())
        await client.read_head()
        assert await client.read_chunk() == b"one"
        go_on.set()
        assert await client.read_chunks() == [b"two"]


async def test_client_that_leaves_closes_the_upstream_connection(tmp_path: Path) -> None:
    closed = trio.Event()

    async def endless(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        assert not await stream.receive_some()
        closed.set()

    async with proxied(tmp_path / "c.sock", endless) as served:
        client = await served.connect()
        await client.send(get())
        await client.read_head()
        client.close()
        with trio.fail_after(1):
            await closed.wait()


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent"])
async def test_broken_upstream_is_a_503(tmp_path: Path, reply: bytes) -> None:
    async def broken(stream: trio.SocketStream) -> None:
        async with stream:
            await read_request(stream)
            if reply:
                await stream.send_all(reply)

    async with proxied(tmp_path / "c.sock", broken) as served:
        client = await served.connect()
        answer = await client.ask(get())
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "control_unavailable"


async def test_absent_upstream_is_a_503(tmp_path: Path) -> None:
    async with serving(UnixProxy(str(tmp_path / "none.sock"))) as served:
        client = await served.connect()
        for _ in range(2):
            assert (await client.ask(get())).status == 503


async def test_upstream_that_dies_in_its_answer_breaks_the_client_off(tmp_path: Path) -> None:
    async def dies(stream: trio.SocketStream) -> None:
        async with stream:
            await read_request(stream)
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async with proxied(tmp_path / "c.sock", dies) as served:
        client = await served.connect()
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            await client.ask(get())


async def test_bytes_are_spliced_only_after_101(tmp_path: Path) -> None:
    async def switch(stream: trio.SocketStream) -> None:
        async with stream:
            seen = await read_request(stream)
            assert b"upgrade: websocket" in seen
            await stream.send_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhi"
            )
            while data := await stream.receive_some():
                await stream.send_all(data.upper())

    async with proxied(tmp_path / "c.sock", switch) as served:
        client = await served.connect()
        await client.send(get("/ws", "connection: upgrade", "upgrade: websocket") + b"early")
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101")
        assert b"upgrade: websocket" in head
        assert await client.read_exactly(7) == b"hiEARLY"
        await client.send(b"more")
        assert await client.read_exactly(4) == b"MORE"
        client.close()
