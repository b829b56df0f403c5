"""How answers are sent: streams, slow and vanished clients, failing handlers, drain."""

import json
import socket

import pytest
import trio

from appliance.core.errors import ModelNotReady
from appliance.core.settings import HttpSettings
from appliance.web.exchange import Exchange
from tests.helpers.http import RawClient, Served, echo, eventually, get, post, serving
from tests.helpers.waiting import until

SMALL = HttpSettings(send_stall_s=0.3, send_buffer_bytes=256 * 1024)


async def three_events(exchange: Exchange) -> None:
    exchange.start_stream()
    exchange.write(b"one")
    exchange.write(b"+")
    exchange.flush()
    await trio.sleep(0.01)
    exchange.write(b"two")
    exchange.flush()
    exchange.write(b"three")
    exchange.end()
    exchange.write(b"late")
    exchange.flush()


async def test_stream_is_one_chunk_per_flush_and_the_connection_lives_on() -> None:
    async with serving({"/s": three_events, "/": echo}) as served:
        client = await served.connect()
        await client.send(get("/s"))
        head = await client.read_head()
        assert b"transfer-encoding: chunked" in head
        assert b"content-type: text/event-stream" in head
        assert await client.read_chunks() == [b"one+", b"two", b"three"]
        assert (await client.ask(get("/"))).status == 200


async def test_stream_to_http10_ends_with_the_connection() -> None:
    async with serving(three_events) as served:
        client = await served.connect()
        answer = await client.ask(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert answer.body == b"one+twothree"
        assert answer.headers["connection"] == "close"
        assert "transfer-encoding" not in answer.headers


async def test_head_of_a_stream_has_no_body() -> None:
    async with serving({"/": three_events, "/e": echo}) as served:
        client = await served.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.read_answer(bodyless=True)).status == 200
        assert (await client.ask(get("/e"))).body == b"GET /e  "


async def test_large_answer_reaches_a_client_that_reads_late() -> None:
    body = bytes(range(256)) * 40_000

    async def large(exchange: Exchange) -> None:
        exchange.respond(200, body, "application/octet-stream")

    async with serving(large, HttpSettings(send_buffer_bytes=1000)) as served:
        client = await served.connect()
        await client.send(get() + get())
        await trio.sleep(0.1)
        assert (await client.read_answer()).body == body
        assert (await client.read_answer()).body == body


class Spout:
    """A handler that streams as fast as it may, and tells how it ended."""

    def __init__(self, *, wait: bool) -> None:
        self.wait = wait
        self.ended: str | None = None

    async def __call__(self, exchange: Exchange) -> None:
        exchange.start_stream()
        try:
            while True:
                exchange.write(b"x" * 10_000)
                exchange.flush()
                if self.wait:
                    await exchange.drained()
                await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self.ended = "cancelled"
            assert exchange.broken
            raise


@pytest.mark.parametrize("wait", [False, True], ids=["over the buffer", "no byte taken"])
async def test_client_that_stops_reading_is_cut_off_while_another_streams_on(wait: bool) -> None:
    spout = Spout(wait=wait)

    async def steady(exchange: Exchange) -> None:
        exchange.start_stream()
        for _ in range(20):
            exchange.write(b"tick")
            exchange.flush()
            await trio.sleep(0.05)
        exchange.end()

    async with serving({"/spout": spout, "/steady": steady}, SMALL) as served:
        stuck, fine = await served.connect(), await served.connect()
        await fine.send(get("/steady"))
        await stuck.send(get("/spout"))
        answer = await fine.read_answer()
        assert answer.body == b"tick" * 20
        await eventually(lambda: spout.ended is not None)
        with pytest.raises(trio.BrokenResourceError):  # a reset: no client may take the stream for complete
            await stuck.read_to_end()


class Waiter:
    """A handler that waits for ever; records its cancellation."""

    def __init__(self, *, start: bool) -> None:
        self.start = start
        self.running = trio.Event()
        self.cancelled = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if self.start:
            exchange.start_stream()
            exchange.flush()
        self.running.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()


@pytest.mark.parametrize("start", [False, True], ids=["before the answer", "in the stream"])
@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_client_that_goes_away_cancels_its_handler(way: str, start: bool) -> None:
    waiter = Waiter(start=start)
    async with serving(waiter) as served:
        client = await served.connect()
        assert isinstance(client.stream, trio.SocketStream)
        await client.send(get())
        await waiter.running.wait()
        if way == "reset":
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if way == "half-close":
            await client.stream.send_eof()
        else:
            client.close()
        with trio.fail_after(1):
            await waiter.cancelled.wait()
        await eventually(lambda: served.listener.connections == 0)
        assert served.listener.active == 0
        assert not served.errors


async def test_half_closed_client_still_gets_an_answer_that_starts_soon() -> None:
    async def soon(exchange: Exchange) -> None:
        await trio.sleep(0.05)
        await echo(exchange)

    async with serving(soon) as served:
        client = await served.connect()
        assert isinstance(client.stream, trio.SocketStream)
        await client.send(post("/", b"x"))
        await client.stream.send_eof()
        assert (await client.read_answer()).body == b"POST /  x"
        assert await client.is_closed()


async def test_late_calls_from_another_task_reach_nobody_else() -> None:
    kept: list[Exchange] = []

    async def keep(exchange: Exchange) -> None:
        kept.append(exchange)
        await echo(exchange)

    async with serving(keep) as served:
        client = await served.connect()
        for path in ("/1", "/2"):
            assert (await client.ask(get(path))).body == f"GET {path}  ".encode()
            for exchange in kept:
                exchange.write(b"stray")
                exchange.flush()
                exchange.end()
        client.close()
        await eventually(lambda: served.listener.connections == 0)
        kept[0].abort()
        kept[0].flush()


async def test_handler_errors_become_answers() -> None:
    async def not_ready(_exchange: Exchange) -> None:
        async with trio.open_nursery():  # wraps the error in a group, as real handlers do
            raise ModelNotReady("model m is starting", retry_after_s=2.2)

    async def bug(_exchange: Exchange) -> None:
        raise ValueError("secret detail")

    async def forgot(_exchange: Exchange) -> None:
        return

    async def started_then_failed(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.write(b"never sent")
        raise ModelNotReady("too bad")

    handlers = {"/a": not_ready, "/v1/messages": not_ready, "/b": bug, "/c": forgot, "/d": started_then_failed}
    async with serving(handlers) as served:
        client = await served.connect()
        answer = await client.ask(get("/a"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
        assert json.loads(answer.body)["error"]["code"] == "model_not_ready"
        anthropic = json.loads((await client.ask(get("/v1/messages"))).body)
        assert anthropic == {"type": "error", "error": {"type": "overloaded_error", "message": "model m is starting"}}
        for path in ("/b", "/c"):
            answer = await client.ask(get(path))
            assert answer.status == 500
            assert b"secret" not in answer.body
        assert (await client.ask(get("/d"))).status == 503
        assert len(served.errors) == 2


async def test_failure_in_the_middle_of_a_stream_breaks_the_connection() -> None:
    async def fail_late(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.write(b"begun")
        exchange.flush()
        await trio.sleep(0.01)
        raise ValueError

    async with serving(fail_late) as served:
        client = await served.connect()
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            await client.ask(get())
        assert len(served.errors) == 1


async def test_handler_that_fails_while_it_is_cancelled_harms_nobody_else() -> None:
    running = trio.Event()

    async def fail_in_cleanup() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("clean-up failed")

    async def handler(exchange: Exchange) -> None:
        if exchange.request.path == "/ok":
            await echo(exchange)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_in_cleanup)
            nursery.start_soon(trio.sleep_forever)
            running.set()

    async with serving(handler) as served:
        other, leaver = await served.connect(), await served.connect()
        await leaver.send(get("/leave"))
        await running.wait()
        leaver.close()
        await eventually(lambda: served.listener.active == 0)
        assert (await other.ask(get("/ok"))).status == 200


async def test_header_values_cannot_add_headers() -> None:
    async def inject(exchange: Exchange) -> None:
        exchange.respond(200, b"", headers=[("x-model", "a\r\nset-cookie: b")])

    async with serving(inject) as served:
        answer = await (await served.connect()).ask(get())
        assert answer.headers["x-model"] == "a  set-cookie: b"
        assert "set-cookie" not in answer.headers


async def test_drain_finishes_streams_closes_idle_and_refuses_new_connections() -> None:
    release = trio.Event()

    async def until_released(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.flush()
        await release.wait()
        exchange.write(b"done")
        exchange.end()

    async with serving({"/wait": until_released, "/": echo}) as served:
        idle, busy = await served.connect(), await served.connect()
        assert (await idle.ask(get("/"))).status == 200
        await busy.send(get("/wait") + get("/"))
        await busy.read_head()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.listener.drain, 5.0)
            assert await idle.is_closed()
            with pytest.raises(OSError, match="connect"):
                await served.connect()
            release.set()
            assert await busy.read_chunks() == [b"done"]
            last = await busy.read_answer()
            assert last.headers["connection"] == "close"
            assert await busy.is_closed()
        assert served.listener.connections == 0


async def test_drain_lets_idle_connections_ask_once_more() -> None:
    async with serving(echo) as served:
        asks, silent = await served.connect(), await served.connect()
        assert (await asks.ask(get("/"))).headers.get("connection") is None
        async with trio.open_nursery() as nursery:
            started = trio.current_time()
            nursery.start_soon(served.listener.drain, 10.0, 2.0)
            await until(lambda: served.listener.draining)
            last = await asks.ask(get("/"))
            assert (last.status, last.headers["connection"]) == (200, "close")
            assert await asks.is_closed()
            assert trio.current_time() - started < 2.0
            assert await silent.is_closed()
        assert served.listener.connections == 0


async def test_drain_cuts_off_what_does_not_end() -> None:
    waiter = Waiter(start=True)
    async with serving(waiter) as served:
        client = await served.connect()
        await client.send(get())
        await waiter.running.wait()
        with trio.fail_after(1):
            await served.listener.drain(0.1)
        assert waiter.cancelled.is_set()


async def test_guard_answers_or_refuses_before_the_handler() -> None:
    def guard(exchange: Exchange) -> bool:
        exchange.extra_headers = b"x-guarded: yes\r\n"
        if exchange.request.path == "/stop":
            exchange.respond(204, b"")
            return False
        if exchange.request.path == "/refuse":
            raise ModelNotReady("no")
        return True

    async with serving(echo, guard=guard) as served:
        client = await served.connect()
        for path, status in (("/", 200), ("/stop", 204), ("/refuse", 503)):
            answer = await client.ask(get(path))
            assert (answer.status, answer.headers["x-guarded"]) == (status, "yes")


async def _ask(served: Served) -> RawClient:
    client = await served.connect()
    await client.send(get())
    return client


async def test_cancelling_the_listener_closes_everything() -> None:
    waiter = Waiter(start=False)
    async with serving(waiter) as served:
        client = await _ask(served)
        await waiter.running.wait()
        with trio.fail_after(1):
            await served.listener.drain(0)
        assert await client.is_closed()
