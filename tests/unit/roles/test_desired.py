"""How stored graphs become wanted instances, and what happens when the store does not play along."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from appliance.core.errors import StateUnavailable
from appliance.core.ports import StateReader, StateWriter
from appliance.core.records import ObjectChange
from appliance.core.settings import Settings
from appliance.graph.kinds import DGD
from appliance.roles.node.board import Board
from appliance.roles.node.desired import OWN_GRAPH, REWRITE_S, DesiredState
from appliance.roles.node.objects import ObjectStoreAdmin
from appliance.state.memory import MemoryStateStore
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.supervisor import Supervisor
from tests.helpers.graphs import graph, worker
from tests.helpers.instances import FakeWorld

T = TypeVar("T")


class FaultyStore:
    """A memory store whose disk can be full, and whose watches can be made to fall behind."""

    def __init__(self) -> None:
        self.memory = MemoryStateStore(buffer=4)
        self.full = False
        self.flowing = trio.Event()
        """Watchers take changes while it is set."""
        self.flowing.set()

    async def read(self, query: Callable[[StateReader], T]) -> T:
        return await self.memory.read(query)

    async def write(self, change: Callable[[StateWriter], T]) -> T:
        if self.full:
            raise StateUnavailable("the disk is full")
        return await self.memory.write(change)

    @asynccontextmanager
    async def watch(self, kind: str) -> AsyncIterator[trio.MemoryReceiveChannel[ObjectChange]]:
        send, receive = trio.open_memory_channel[ObjectChange](0)
        async with self.memory.watch(kind) as changes, trio.open_nursery() as nursery:

            async def pass_on() -> None:
                with send:
                    async for change in changes:
                        await self.flowing.wait()
                        await send.send(change)

            nursery.start_soon(pass_on)
            yield receive
            nursery.cancel_scope.cancel()


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor(FakeWorld().make())


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
async def desired(nursery: trio.Nursery, store: FaultyStore, supervisor: Supervisor) -> DesiredState:
    made = DesiredState(store, supervisor, 1)
    await nursery.start(supervisor.run)
    await nursery.start(made.run)
    return made


def components(supervisor: Supervisor) -> set[str]:
    return {view.instance.component for view in supervisor.views() if view.phase != "stopping"}


async def state_of(store: FaultyStore, name: str) -> object:
    found = await store.read(lambda reader: reader.get(DGD, name))
    return found and found.status.get("state")


async def test_a_full_disk_does_not_end_the_node(
    autojump_clock: trio.testing.MockClock, desired: DesiredState, store: FaultyStore, supervisor: Supervisor
) -> None:
    store.full = True
    await ObjectStoreAdmin(store.memory).apply_objects([graph(worker("w"))])
    await trio.sleep(3 * REWRITE_S)
    assert components(supervisor) == {"frontend", "w"}
    assert await state_of(store, "g") is None
    store.full = False
    await trio.sleep(2 * REWRITE_S)
    assert await state_of(store, "g") == "pending"


async def test_a_graph_deleted_while_the_watch_was_behind_is_no_longer_wanted(
    autojump_clock: trio.testing.MockClock, desired: DesiredState, store: FaultyStore, supervisor: Supervisor
) -> None:
    admin = ObjectStoreAdmin(store.memory)
    await admin.apply_objects([graph(worker("w"))])
    await trio.sleep(1)
    store.flowing = trio.Event()
    store.full = True
    for at in range(10):
        await admin.apply_objects([graph(worker("x", replicas=at), name="other")])
    await admin.delete_object("dgd", "g")
    await trio.sleep(1)
    store.flowing.set()
    await trio.sleep(60)
    assert components(supervisor) == {"frontend", "x"}


async def test_a_graph_may_be_called_like_our_own(
    autojump_clock: trio.testing.MockClock, desired: DesiredState, store: FaultyStore, supervisor: Supervisor
) -> None:
    await ObjectStoreAdmin(store.memory).apply_objects([graph(worker("w"), name=OWN_GRAPH)])
    await trio.sleep(1)
    board = Board(Settings(), desired, supervisor, GpuLedger(), Path())
    assert [view.instance.component for view in board.workers()] == ["w"]
    assert [view.instance.component for view in board.front_ends()] == ["frontend"]
