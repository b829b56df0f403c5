"""Adapters on a node: kept in the store, ordered of workers over the bus, and who is held back meanwhile."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from appliance.core.errors import Conflict, InvalidRequest, NotFound, StateUnavailable
from appliance.core.identity import ModelName, WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent, ModelRecord
from appliance.core.requests import ModelCard
from appliance.roles.node.adapter_store import KIND, AdapterStore
from appliance.roles.node.adapters import HOLDING_BACK, NodeAdapters
from appliance.roles.node.board import Board
from appliance.roles.worker_adapters import WorkerAdapters
from appliance.state.memory import MemoryStateStore
from appliance.supervision.changes import Changes
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from appliance.transport.bus_server import BusServer
from tests.helpers.waiting import until


class Host:
    """An engine that refuses some names, and takes as long as the test says."""

    def __init__(self) -> None:
        self.adapters: set[str] = set()
        self.refuses: set[str] = set()
        self.may_load = trio.Event()
        self.may_load.set()

    async def load_adapter(self, name: str, path: str) -> None:
        await self.may_load.wait()
        if name in self.refuses:
            raise InvalidRequest(f"the engine cannot load the adapter {name!r}")
        self.adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        self.adapters.discard(name)


@dataclass
class Child:
    """A worker's end of the bus."""

    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        self.adapters = WorkerAdapters(self.host)

    async def pull(self, what: str, deadline_s: float, about: str) -> object:
        return await self.adapters.obey(about)


class Node:
    """The board, the bus and the supervisor in one, with workers as the test wants them."""

    def __init__(self, store: MemoryStateStore) -> None:
        self.children: dict[str, Child] = {}
        self.views: list[WorkerView] = []
        self.resting: set[WorkerId] = set()
        self.events: list[LedgerEvent] = []
        self.changes = Changes()
        self.note_change, self.wait_changed = self.changes.bump, self.changes.wait
        self.adapters = lambda models: models
        self.of = NodeAdapters(
            AdapterStore(store),
            cast("Board", self),
            cast("BusServer", self),
            cast("Supervisor", self),
            lambda worker: worker not in self.resting,
            self.events.append,
        )

    @property
    def version(self) -> int:
        return self.changes.version

    def workers(self) -> list[WorkerView]:
        return self.views

    def models(self) -> list[ModelRecord]:
        return self.of.records([ModelRecord(name=ModelName("base"), phase="ready", created=1)])

    def find(self, role: str, worker: str) -> Child | None:
        return self.children.get(worker)

    def add(self, name: str) -> Host:
        child = self.children[name] = Child()
        instance = ComponentInstance(graph="g", component="c", index=0, type="worker", argv=(), spec_hash="")
        card = ModelCard(name=ModelName("base"), context_length=64, engine="vllm")
        self.views.append(
            WorkerView(
                id=WorkerId(name),
                instance=instance,
                phase="ready",
                since=0.0,
                pid=None,
                address="",
                restarts=0,
                reason="",
                progress=None,
                card=card,
            )
        )
        self.changes.bump()
        return child.host

    def serving(self) -> list[str]:
        return [view.id for view in self.of.as_front_ends_see(self.views) if view.phase == "ready"]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.of.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def store() -> MemoryStateStore:
    return MemoryStateStore()


@pytest.fixture
def poet(tmp_path: Path) -> str:
    (tmp_path / "poet").mkdir()
    return str(tmp_path / "poet")


async def kept(store: MemoryStateStore) -> list[str]:
    return [one.name for one in await store.read(lambda reader: reader.list_all(KIND))]


async def test_what_was_loaded_is_loaded_again(store: MemoryStateStore, poet: str) -> None:
    before = Node(store)
    before.add("w-1")
    assert await before.of.load("base", "poet", poet) == {
        "name": "poet",
        "model": "base",
        "workers": 1,
        "already": False,
    }
    again = Node(store)
    await again.of.restore()
    host = again.add("w-2")
    host.may_load = trio.Event()
    assert (again.serving(), again.of.are_brought()) == ([], False)
    assert again.of.as_front_ends_see(again.views)[0].reason == HOLDING_BACK
    assert [(one.name, one.phase) for one in again.models()] == [("base", "ready"), ("poet", "starting")]
    async with again.running():
        host.may_load.set()
        await until(lambda: again.serving() == ["w-2"])
    assert host.adapters == {"poet"}
    assert again.models()[1].phase == "ready"
    assert again.of.are_brought()


async def test_a_slow_worker_keeps_no_other_waiting(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    node.add("w-1")
    await node.of.load("base", "poet", poet)
    async with node.running():
        node.add("w-slow").may_load = trio.Event()
        await trio.testing.wait_all_tasks_blocked()
        node.add("w-3")
        await until(lambda: node.serving() == ["w-1", "w-3"])


async def test_a_folder_that_is_gone_is_noted_and_the_worker_serves(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    node.add("w-1")
    await node.of.load("base", "poet", poet)
    node.views.clear()
    os.rmdir(poet)
    async with node.running():
        node.add("w-2")
        await until(lambda: node.serving() == ["w-2"])
        assert node.models()[1].phase == "failed"
        (event,) = node.events
        assert (event.subject, event.action) == ("model/poet", "refuse")
        assert event.reason == f"cannot load the adapter: there is no adapter folder {poet} any more"

        os.mkdir(poet)
        assert (await node.of.load("base", "poet", poet))["already"] is False
    assert node.models()[1].phase == "ready"
    (row,) = node.of.listed()
    assert (row["workers"], row["reason"]) == (["w-2"], "")


async def test_all_workers_or_none(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    good, bad = node.add("w-1"), node.add("w-2")
    bad.refuses.add("poet")
    with pytest.raises(InvalidRequest, match="w-2: the engine cannot load"):
        await node.of.load("base", "poet", poet)
    assert good.adapters == set()
    assert await kept(store) == []
    assert [one.name for one in node.models()] == ["base"]


class BrokenStore(AdapterStore):
    """A disk that is full."""

    async def keep(self, name: str, model: str, path: str) -> Any:
        raise StateUnavailable("cannot write: the disk is full")


async def test_what_cannot_be_kept_is_not_loaded(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    host = node.add("w-1")
    node.of._store = BrokenStore(store)
    with pytest.raises(StateUnavailable):
        await node.of.load("base", "poet", poet)
    assert host.adapters == set()
    assert node.serving() == ["w-1"]


async def test_unloading_is_for_good_also_where_a_worker_sleeps(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    awake, asleep = node.add("w-1"), node.add("w-2")
    async with node.running():
        await node.of.load("base", "poet", poet)
        node.resting.add(WorkerId("w-2"))
        assert await node.of.unload("poet") == {"name": "poet", "model": "base"}
        assert (awake.adapters, asleep.adapters) == (set(), {"poet"})
        assert await kept(store) == []
        node.resting.clear()
        node.note_change()
        await until(lambda: not asleep.adapters)
    with pytest.raises(NotFound, match="loaded: none"):
        await node.of.unload("poet")
    events = await store.read(lambda reader: reader.events("model/poet"))
    assert [(event.action, event.inputs["folder"]) for event in events] == [("unload", poet), ("load", poet)]


async def test_names_that_are_taken(store: MemoryStateStore, poet: str, tmp_path: Path) -> None:
    node = Node(store)
    node.add("w-1")
    with pytest.raises(Conflict):
        await node.of.load("base", "base", poet)
    await node.of.load("base", "poet", poet)
    with pytest.raises(Conflict, match="taken by an adapter of base"):
        await node.of.load("base", "poet", str(tmp_path))
    assert (await node.of.load("base", "poet", poet))["already"] is True
    with pytest.raises(InvalidRequest, match="no adapter folder"):
        await node.of.load("base", "critic", "relative")
    with pytest.raises(NotFound, match="no ready worker"):
        await node.of.load("other", "critic", poet)


async def test_a_worker_that_starts_during_a_load_is_not_held_back_after_it(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    first = node.add("w-1")
    first.may_load = trio.Event()
    async with node.running(), trio.open_nursery() as nursery:
        nursery.start_soon(node.of.load, "base", "poet", poet)
        await trio.testing.wait_all_tasks_blocked()
        second = node.add("w-2")
        assert node.serving() == ["w-1", "w-2"]
        first.may_load.set()
        await until(lambda: len(node.models()) == 2)
        assert node.serving() == ["w-1", "w-2"]
        assert (first.adapters, second.adapters) == ({"poet"}, {"poet"})


async def test_a_load_that_is_given_up_is_taken_back(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    first, second = node.add("w-1"), node.add("w-2")
    second.may_load = trio.Event()
    async with node.running():
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.of.load, "base", "poet", poet)
                await until(lambda: first.adapters == {"poet"})
                scope.cancel()
        await until(lambda: first.adapters == set())
    assert await kept(store) == []


async def test_a_worker_that_has_left_is_no_refusal(store: MemoryStateStore, poet: str) -> None:
    node = Node(store)
    node.add("w-1")
    await node.of.load("base", "poet", poet)
    async with node.running():
        late = node.add("w-2")
        late.may_load, late.refuses = trio.Event(), {"poet"}
        await trio.testing.wait_all_tasks_blocked()
        node.views[1] = replace(node.views[1], phase="backoff")
        late.may_load.set()
        await trio.testing.wait_all_tasks_blocked()
    assert node.events == []
