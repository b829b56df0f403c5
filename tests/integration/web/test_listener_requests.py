"""How requests are read: framing, limits, deadlines, refusals."""

import json
from dataclasses import replace

import pytest
import trio

from appliance.core.settings import HttpSettings
from appliance.web.exchange import Exchange
from tests.helpers.http import QUICK, RawClient, echo, eventually, get, post, serving


async def test_keep_alive_answers_many_requests_on_one_connection() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        for index in range(400):
            answer = await client.ask(post(f"/a%20b?x={index}", b"body"))
            assert answer.body == f"POST /a b x={index} body".encode()
        assert served.listener.connections == 1


async def test_connection_close_closes_at_once() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        answer = await client.ask(get("/", "connection: close"))
        assert answer.headers["connection"] == "close"
        with trio.fail_after(0.5):
            assert await client.is_closed()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def slow_first(exchange: Exchange) -> None:
        if exchange.request.path == "/0":
            await trio.sleep(0.05)
        await echo(exchange)

    async with serving(slow_first) as served:
        client = await served.connect()
        await client.send(b"".join(get(f"/{index}") for index in range(100)) + post("/last", b"x"))
        bodies = [(await client.read_answer()).body for _ in range(101)]
        assert bodies[:100] == [f"GET /{index}  ".encode() for index in range(100)]
        assert bodies[100] == b"POST /last  x"


async def test_request_split_into_single_bytes() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        for byte in post("/p?q=1", b"hello"):
            await client.send(bytes([byte]))
        assert (await client.read_answer()).body == b"POST /p q=1 hello"


async def test_chunked_request_body_with_trailers() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        answer = await client.ask(head + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nhost: evil\r\n\r\n")
        assert answer.body == b"POST /  abcde"
        assert (await client.ask(get("/again"))).status == 200


async def test_head_and_http10() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(b"HEAD /h HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await client.read_answer(bodyless=True)
        assert answer.headers["content-length"] == str(len("HEAD /h  "))
        old = await served.connect()
        assert (await old.ask(b"GET /old HTTP/1.0\r\n\r\n")).body == b"GET /old  "
        assert await old.is_closed()
        kept = await served.connect()
        assert (await kept.ask(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")).headers[
            "connection"
        ] == "keep-alive"
        assert (await kept.ask(b"GET /2 HTTP/1.0\r\n\r\n")).body == b"GET /2  "


async def test_expect_continue_gets_its_go_ahead() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert await client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"ok")).body == b"POST /  ok"


async def test_request_id_comes_back_on_every_answer() -> None:
    async with serving({"/": echo}) as served:
        client = await served.connect()
        for path, status in (("/", 200), ("/nowhere", 404)):
            answer = await client.ask(get(path, "x-request-id: abc-1"))
            assert (answer.status, answer.headers["x-request-id"]) == (status, "abc-1")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nabc", 501),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\nexpect: tea\r\ncontent-length: 1\r\n\r\nx", 417),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 501),
        (
            b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x%d: y\r\n" % i for i in range(200)) + b"\r\n",
            431,
        ),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 300_000, 431),
    ],
)
async def test_bad_requests_get_a_json_error_and_the_connection_closes(request_bytes: bytes, status: int) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        answer = await client.ask(request_bytes)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert json.loads(answer.body)["error"]["message"]
        assert await client.is_closed()
        assert not served.errors


async def test_body_over_the_limit_is_refused_before_it_arrives_and_the_sender_sees_why() -> None:
    async with serving(echo, HttpSettings(body_limit_mb=0.1)) as served:
        for head in (b"content-length: 5000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n20000\r\n"):
            client = await served.connect()
            await client.send(b"POST / HTTP/1.1\r\nhost: x\r\n" + head)
            await client.send(b"x" * 1_000_000)  # an eager client reads only after it has sent a lot
            answer = await client.read_answer()
            assert answer.status == 413
            assert "0.1 MB" in json.loads(answer.body)["error"]["message"]
        fitting = await (await served.connect()).ask(post("/", b"x" * 100_000))
        assert fitting.status == 200


@pytest.mark.parametrize(
    "start",
    [b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab"],
)
async def test_slow_request_is_timed_out(start: bytes) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(start)
        answer = await client.read_answer()
        assert answer.status == 408
        assert await client.is_closed()


async def test_dripping_head_does_not_renew_its_deadline() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        answer = None
        with trio.fail_after(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drip, client)
                answer = await client.read_answer()
                nursery.cancel_scope.cancel()
        assert answer is not None
        assert answer.status == 408


async def _drip(client: RawClient) -> None:
    await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n")
    while True:
        await trio.sleep(0.02)
        try:
            await client.send(b"x: y\r\n")
        except trio.BrokenResourceError:
            return


async def test_idle_connection_is_closed_and_a_used_one_is_not() -> None:
    async with serving(echo, HttpSettings(idle_s=0.3)) as served:
        idle, used = await served.connect(), await served.connect()
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_use_for, used, 0.8)
                assert await idle.is_closed()
        assert (await used.ask(get("/still"))).status == 200


async def _use_for(client: RawClient, seconds: float) -> None:
    with trio.move_on_after(seconds):
        while True:
            await client.ask(get("/"))
            await trio.sleep(0.1)


async def test_upgrade_offer_is_ignored_when_nobody_takes_it() -> None:
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AA")
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(get("/one", *offer) + get("/two"))
        assert (await client.read_answer()).body == b"GET /one  "
        assert (await client.read_answer()).body == b"GET /two  "
        assert (await client.ask(post("/three", b"a body", *offer))).body == b"POST /three  a body"
        assert (await client.ask(get("/four"))).body == b"GET /four  "


async def test_absolute_target_and_options_star() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        assert (await client.ask(b"GET http://x:1/p?q HTTP/1.1\r\nhost: x\r\n\r\n")).body == b"GET /p q "
        assert (await client.ask(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n")).body == b"OPTIONS *  "


async def test_connections_over_the_limit_are_told() -> None:
    async with serving(echo, limits=replace(QUICK, connections=3)) as served:
        kept = [await served.connect() for _ in range(3)]
        for client in kept:
            assert (await client.ask(get())).status == 200
        answer = await (await served.connect()).read_answer()
        assert answer.status == 503
        await kept[0].stream.aclose()
        await eventually(lambda: served.listener.connections == 2)
        assert (await (await served.connect()).ask(get())).status == 200


async def test_a_thousand_keep_alive_connections() -> None:
    async with serving(echo) as served:
        clients = [await served.connect() for _ in range(1000)]
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(_ask_ok, client)
        assert served.listener.connections == 1000


async def _ask_ok(client: RawClient) -> None:
    assert (await client.ask(get())).status == 200
