"""Regression tests for two faults of the ASGI stack: connections that never close, and sends without a deadline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from quart import Response
from quart_trio import QuartTrio

from appliance.frontend.control.serving import answer_json, make_app
from appliance.web.hypercorn_serving import serve_asgi
from appliance.web.sockets import bind_unix
from tests.helpers.http import RawClient, get


def build_app() -> QuartTrio:
    app = make_app("test")

    @app.get("/")
    async def home() -> Response:
        return answer_json({"ok": True})

    @app.get("/flood")
    async def flood() -> Response:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 100_000

        return Response(body())

    @app.get("/bug")
    async def bug() -> Response:
        raise ValueError("secret")

    return app


@asynccontextmanager
async def asgi_served(path: Path, **options: Any) -> AsyncIterator[trio.Event]:
    """The app on a unix socket; setting the event stops it, leaving the block waits for that."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_asgi, build_app(), bind=[bind_unix(path)], stop=stop, **options))
        yield stop
        stop.set()


async def connect(path: Path) -> RawClient:
    return RawClient(await trio.open_unix_socket(str(path)))


async def test_connection_close_closes_at_once(tmp_path: Path) -> None:
    async with asgi_served(tmp_path / "s") as stop:
        client = await connect(tmp_path / "s")
        answer = await client.ask(get("/", "connection: close"))
        assert answer.body == b'{"ok":true}'
        with trio.fail_after(1):
            assert await client.is_closed()
        client.close()
        stop.set()


async def test_many_keep_alive_requests_and_idle_close(tmp_path: Path) -> None:
    async with asgi_served(tmp_path / "s", keep_alive_s=0.3):
        client = await connect(tmp_path / "s")
        for _ in range(400):
            assert (await client.ask(get("/"))).status == 200
        with trio.fail_after(1.5):
            assert await client.is_closed()
        client.close()


async def test_stop_with_idle_connections_is_immediate(tmp_path: Path) -> None:
    async with asgi_served(tmp_path / "s") as stop:
        client = await connect(tmp_path / "s")
        await client.ask(get("/"))
        start = trio.current_time()
        stop.set()
        assert await client.is_closed()
        client.close()
    assert trio.current_time() - start < 0.5


async def test_stop_is_bounded_when_a_client_stopped_reading(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with asgi_served(tmp_path / "s", send_s=0.5, grace_s=0.2) as stop:
            client = await connect(tmp_path / "s")
            await client.send(get("/flood"))
            await trio.sleep(0.1)
            start = trio.current_time()
            stop.set()
    assert trio.current_time() - start < 2
    client.close()


async def test_errors_have_json_bodies_and_no_secrets(tmp_path: Path) -> None:
    async with asgi_served(tmp_path / "s"):
        client = await connect(tmp_path / "s")
        for request, status, words in (
            (get("/bug"), 500, b"the server failed"),
            (get("/none"), 404, b"no such path"),
            (b"DELETE / HTTP/1.1\r\nhost: x\r\n\r\n", 405, b"cannot DELETE"),
        ):
            answer = await client.ask(request)
            assert answer.status == status
            assert words in answer.body
            assert b"secret" not in answer.body
        client.close()


async def test_cancelling_ends_at_once(tmp_path: Path) -> None:
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_asgi, build_app(), bind=[bind_unix(tmp_path / "s")]))
            client = await connect(tmp_path / "s")
            await client.ask(get("/"))
            nursery.cancel_scope.cancel()
    client.close()


def test_a_socket_file_in_use_is_not_taken_over(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "s") as first:
        with pytest.raises(Exception, match="another process"):
            bind_unix(tmp_path / "s")
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        assert first.fileno() >= 0
    bind_unix(tmp_path / "s").close()
