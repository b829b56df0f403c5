"""The admin API over a fake service."""

from functools import partial
from pathlib import Path

import pytest
import trio
from quart.typing import TestClientProtocol as Client

from appliance.frontend.control.admin_app import build_admin_app
from appliance.web.hypercorn_serving import serve_asgi
from appliance.web.sockets import bind_unix
from tests.fakes.control import FakeAdmin
from tests.helpers.http import RawClient, eventually, get

MANIFEST = {"kind": "graph", "metadata": {"name": "serve"}, "spec": {}}


@pytest.fixture
def admin() -> FakeAdmin:
    return FakeAdmin()


@pytest.fixture
def client(admin: FakeAdmin) -> Client:
    return build_admin_app(admin).test_client()


async def test_objects_live_and_die(client: Client) -> None:
    assert (await client.put("/objects", json=MANIFEST)).status_code == 200
    other = {**MANIFEST, "metadata": {"name": "other"}}
    assert len((await (await client.put("/objects", json=[MANIFEST, other])).get_json())["items"]) == 2
    assert len((await (await client.get("/objects/graph")).get_json())["items"]) == 2
    assert await (await client.get("/objects/graph/serve")).get_json() == MANIFEST
    assert (await client.delete("/objects/graph/serve")).status_code == 200
    answer = await client.get("/objects/graph/serve")
    assert answer.status_code == 404
    assert (await answer.get_json())["error"] == {
        "message": "no graph serve",
        "type": "not_found_error",
        "param": None,
        "code": "not_found",
    }


async def test_wrong_bodies(client: Client) -> None:
    assert (await client.put("/objects", data=b"nope")).status_code == 400
    assert (await client.put("/objects", json={"spec": 1})).status_code == 422
    assert (await client.put("/objects", json=[1])).status_code == 400
    for body in ({"component": "w"}, {"component": "w", "replicas": "2"}, {"component": "w", "replicas": 1, "x": 1}):
        assert (await client.post("/scale", json=body)).status_code == 400


async def test_scale(client: Client, admin: FakeAdmin) -> None:
    assert (await client.post("/scale", json={"component": "w", "replicas": 2})).status_code == 200
    await client.post("/scale", json={"component": "w", "replicas": 0, "graph": "g"})
    assert admin.scaled == [("w", 2, None), ("w", 0, "g")]


async def test_restart(client: Client, admin: FakeAdmin) -> None:
    assert (await client.post("/restart", json={"component": "w"})).status_code == 202
    await client.post("/restart", json={"component": "w", "graph": "g"})
    assert admin.restarted == [("w", None), ("w", "g")]
    assert (await client.post("/restart", json={"graph": "g"})).status_code == 400


async def test_keys_show_their_secret_once(client: Client) -> None:
    created = await client.post("/keys", json={"name": "a"})
    assert created.status_code == 201
    assert (await created.get_json())["secret"] == "sk-1"
    assert (await client.post("/keys", json={"name": "a"})).status_code == 409
    assert (await (await client.get("/keys")).get_json())["items"] == [{"name": "a"}]
    assert (await client.delete("/keys/a")).status_code == 200
    assert (await client.delete("/keys/a")).status_code == 404


async def test_diagnosis_and_stop(client: Client, admin: FakeAdmin) -> None:
    assert (await client.get("/status")).status_code == 200
    assert (await client.get("/config")).status_code == 200
    await client.get("/events")
    await client.get("/events?subject=worker/&limit=5")
    assert admin.asked == [(None, 100), ("worker/", 5)]
    assert (await client.get("/events?limit=x")).status_code == 400
    assert (await client.post("/stop")).status_code == 202
    assert admin.stopped


async def test_logs(client: Client, admin: FakeAdmin) -> None:
    assert await (await client.get("/logs/worker?lines=2")).get_data() == b"two\nthree\n"
    assert (await client.get("/logs/none")).status_code == 404
    assert (await client.get("/logs/worker?lines=-1")).status_code == 400
    assert admin.open_logs == 0


async def test_followed_logs_end_with_the_reader(admin: FakeAdmin, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_asgi, build_admin_app(admin), bind=[bind_unix(path)]))
        reader = RawClient(await trio.open_unix_socket(str(path)))
        await reader.send(get("/logs/worker?follow=1"))
        await reader.read_head()
        assert [await reader.read_chunk() for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
        assert admin.open_logs == 1
        reader.close()
        await eventually(lambda: admin.open_logs == 0)
        nursery.cancel_scope.cancel()
