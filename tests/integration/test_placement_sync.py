"""Routers of several front ends over a real bus: each knows what all have placed, until they leave."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.roles.node.reports import ChildReports
from appliance.roles.placement_sync import PlacementSync
from appliance.routing.router import Placement, Router, RoutingRequest
from appliance.transport.bus_client import connect_bus
from appliance.transport.bus_server import BusServer
from appliance.transport.limits import LinkLimits
from appliance.wire.bus_messages import ChildHello, PlacementReports
from appliance.wire.framing import encode
from appliance.wire.sockets import connect_unix
from tests.helpers.waiting import until

MODEL, WORKER = ModelName("m"), WorkerId("w-0")
CARD = ModelCard(name=MODEL, context_length=1000, engine="mocker", max_num_seqs=4)


@pytest.fixture
async def server(tmp_path: Path, nursery: trio.Nursery) -> BusServer:
    reports = ChildReports()
    made = BusServer(tmp_path / "bus.sock", reports, LinkLimits(relay_limit_bytes=500_000))
    reports.relay_over(made)
    await nursery.start(made.run)
    return made


@asynccontextmanager
async def front_end(path: Path, name: str) -> AsyncIterator[Router]:
    """A router that takes part over a bus connection of its own."""
    sync = PlacementSync()
    router = Router(RouterSettings(mode="kv"), router_id=name, report=sync.reporter.report)
    router.add(WORKER, CARD)
    async with connect_bus(path, ChildHello("frontend", name, 1)) as bus, trio.open_nursery() as nursery:
        nursery.start_soon(sync.run, router, bus)
        yield router
        nursery.cancel_scope.cancel()


async def place(router: Router) -> Placement:
    return await router.place(RoutingRequest(id=RequestId("r"), model=MODEL, token_ids=list(range(64))))


def load(router: Router) -> tuple[int, int, int]:
    (row,) = router.loads()
    return row.streams, row.prefill_tokens, row.decode_blocks


async def test_front_ends_see_each_others_load_within_100_ms(server: BusServer, tmp_path: Path) -> None:
    async with front_end(tmp_path / "bus.sock", "a") as a, front_end(tmp_path / "bus.sock", "b") as b:
        await until(lambda: len(server.children()) == 2)
        placed = [await place(a) for _ in range(3)]
        await until(lambda: load(b) == load(a), 0.1)
        assert load(b)[0] == 3
        placed[0].prefill_complete()
        placed[1].__exit__(None, None, None)
        await until(lambda: load(b) == load(a) and load(b)[0] == 2)
        mine = await place(b)
        await until(lambda: load(a)[0] == 3)
        mine.__exit__(None, None, None)
        await until(lambda: load(a)[0] == load(b)[0] == 2)


async def test_streams_of_one_that_left_are_forgotten(server: BusServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as dying, front_end(tmp_path / "bus.sock", "b") as b:
        a = await dying.enter_async_context(front_end(tmp_path / "bus.sock", "a"))
        await until(lambda: len(server.children()) == 2)
        for _ in range(3):
            await place(a)
        await until(lambda: load(b)[0] == 3)
        await dying.aclose()
        await until(lambda: load(b) == (0, 0, 0))


async def test_one_that_is_new_begins_empty_and_converges(server: BusServer, tmp_path: Path) -> None:
    async with front_end(tmp_path / "bus.sock", "a") as a:
        await until(lambda: len(server.children()) == 1)
        old = await place(a)
        await trio.sleep(0.05)
        async with front_end(tmp_path / "bus.sock", "b") as b:
            await until(lambda: len(server.children()) == 2)
            await place(a)
            await until(lambda: load(b)[0] == 1)
            old.__exit__(None, None, None)
            await until(lambda: load(a) == load(b))


async def test_a_front_end_that_reads_nothing_costs_bounded_memory(
    server: BusServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = await connect_unix(tmp_path / "bus.sock", deadline_s=1)
    deaf.send_now(encode(ChildHello("frontend", "deaf", 1)))
    async with connect_bus(tmp_path / "bus.sock", ChildHello("frontend", "a", 1)) as loud:
        await until(lambda: len(server.children()) == 2)
        for _ in range(400):
            await loud.send(PlacementReports(b"x" * 10_000))
        await until(lambda: "misses reports" in caplog.text)
        child = server.find("frontend", "deaf")
        assert child is not None
        kept = child._connection.outbox.backlog_bytes + child._relays._bytes
        assert 0 < kept <= 1_000_000, "one batch that is being sent, and the limit"
        assert sum("misses reports" in line for line in caplog.messages) == 1
    deaf.close()


async def test_what_is_no_report_harms_nobody(
    server: BusServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bus.sock"
    async with (
        connect_bus(path, ChildHello("frontend", "mad", 1)) as mad,
        front_end(path, "a") as a,
        front_end(path, "b") as b,
    ):
        await until(lambda: len(server.children()) == 3)
        await mad.send(PlacementReports(b"\xc1"))
        await until(lambda: "cannot read reports" in caplog.text)
        await place(a)
        await until(lambda: load(b)[0] == 1)


def test_expired_streams_are_dropped() -> None:
    now = [0.0]
    two = Router(RouterSettings(mode="kv"), router_id="two", clock=lambda: now[0])
    two.add(WORKER, CARD)
    one = Router(RouterSettings(mode="kv"), router_id="one", report=two.apply_replica)
    one.add(WORKER, CARD)

    async def place_both() -> None:
        await place(one)
        now[0] = 100.0
        await place(one)

    trio.run(place_both)
    assert load(two)[0] == 2
    assert two.expire_replicas(50.0) == 1
    assert load(two)[0] == 1
