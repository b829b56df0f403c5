"""Residency on a node: demand of front ends in, wanted instances out, and what clients are told."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from appliance.core.errors import Conflict, ModelNotReady, NotFound
from appliance.core.identity import ModelName, WorkerId
from appliance.core.instances import ComponentInstance, ResidenceWish
from appliance.core.records import LedgerEvent, ModelRecord, WorkerPhase
from appliance.core.requests import ModelCard
from appliance.core.settings import ResidencySettings
from appliance.frontend.catalog import Catalog
from appliance.roles.demand_reports import compose_demand
from appliance.roles.node.box import Box
from appliance.roles.node.demand import DemandBoard
from appliance.roles.node.model_facts import ModelFacts
from appliance.roles.node.residence_notes import ResidenceNote, with_residence
from appliance.roles.node.residency import Residency
from appliance.roles.node.sleep import Rest, Sleepers
from appliance.routing.held import Held, HeldRequests
from appliance.state.memory import MemoryStateStore
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.views import LoadProgress, WorkerView
from appliance.wire.bus_messages import ModelDemand, Sleep, Wake

GIB = 1 << 30


def instance(name: str, *, pinned: bool = False) -> ComponentInstance:
    return ComponentInstance(
        graph="g",
        component=name,
        index=0,
        type="worker",
        argv=("worker", "--model", f"/m/{name}.gguf", "--served-model-name", name),
        residence=ResidenceWish(pinned=pinned),
        spec_hash="x",
    )


def view(name: str, phase: WorkerPhase, *, progress: float | None = None) -> WorkerView:
    card = ModelCard(name=ModelName(name), context_length=64, engine="mocker") if phase == "ready" else None
    return WorkerView(
        id=WorkerId(f"w-{name}"),
        instance=instance(name),
        phase=phase,
        since=0.0,
        pid=None,
        address="",
        restarts=0,
        reason="",
        progress=None if progress is None else LoadProgress(fraction=progress, text="loading"),
        card=card,
    )


@dataclass
class Node:
    """Residency with processes that are as the test says."""

    settings: ResidencySettings = field(default_factory=lambda: ResidencySettings(max_models=1))
    views: list[WorkerView] = field(default_factory=list)
    events: list[LedgerEvent] = field(default_factory=list)
    wanted: Sequence[ComponentInstance] = (instance("a"), instance("b"))
    orders: list[tuple[WorkerId, Sleep | Wake]] = field(default_factory=list)
    replaced: list[WorkerId] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        box = Box(
            memory_bytes=8 * GIB,
            size_of=lambda _: 600_000_000,
            memory_of=lambda _: GIB,
            looks_at=lambda _: False,
            room_on_gpus=lambda _: lambda _: True,
        )
        self.sleepers = Sleepers(
            lambda worker, order: self.orders.append((worker, order)),
            lambda worker, reason: self.replaced.append(worker),
            GpuLedger(),
            lambda: None,
            lambda: 30.0,
            lambda: self.now,
        )
        self.residency = Residency(box, lambda: self.settings, lambda: self.views, self.events.append, self.sleepers)

    def run(self) -> list[str]:
        """Names of the models whose processes are wanted."""
        return [one.component for one in self.residency.admit(self.wanted)]

    def ask(self, model: str, *, waiting: int = 1, oldest_s: float = 0.0, active: int = 0) -> None:
        self.residency.demand.note("fe", [ModelDemand(model, waiting, oldest_s, active, -1)])


async def test_a_request_for_a_cold_model_swaps_it_in(autojump_clock: MockClock) -> None:
    node = Node()
    assert node.run() == ["a"]
    node.views = [view("a", "ready")]
    assert node.run() == ["a"]
    node.ask("b", waiting=50)
    assert node.run() == [], "a leaves first"
    node.views = [view("a", "draining")]
    assert node.run() == []
    assert node.residency.notes()["b"].reason == "waiting for memory: a is being unloaded"
    node.views = []
    assert node.run() == ["b"]
    assert node.run() == ["b"]
    node.views = [view("b", "starting")]
    assert node.residency.notes()["b"].phase == "starting"
    node.views = [view("b", "ready")]
    node.ask("b", waiting=0)
    assert node.run() == ["b"]
    told = [(event.subject, event.action) for event in node.events]
    assert told == [("model/a", "load"), ("model/a", "unload"), ("model/b", "load")]
    assert node.events[-1].inputs["waiting"] == 50


async def test_a_worker_that_dies_while_it_loads_is_loaded_by_supervision_alone(autojump_clock: MockClock) -> None:
    node = Node()
    node.run()
    for phase in ("starting", "backoff", "starting"):
        node.views = [view("a", phase)]
        assert node.run() == ["a"]
    assert [event.action for event in node.events] == ["load"]


async def test_a_failed_model_holds_nothing_and_stays_as_it_is(autojump_clock: MockClock) -> None:
    node = Node()
    node.run()
    node.views = [view("a", "failed")]
    node.ask("b")
    assert node.run() == ["a", "b"], "what has failed goes on being shown"
    assert "a" not in node.residency.notes()
    with pytest.raises(Conflict, match="its workers failed"):
        node.residency.load("a")


async def test_orders_of_a_user(autojump_clock: MockClock) -> None:
    node = Node(
        wanted=(instance("a", pinned=True), instance("b"), instance("c")), settings=ResidencySettings(max_models=2)
    )
    assert node.run() == ["a", "b"]
    node.views = [view("a", "ready"), view("b", "ready")]
    node.run()
    asked: list[None] = []
    with pytest.raises(Conflict, match="it is pinned"):
        node.residency.unload("a", lambda: asked.append(None))
    with pytest.raises(NotFound, match="those that are: a, b, c"):
        node.residency.load("nobody")
    node.residency.unload("b", lambda: asked.append(None))
    assert len(asked) == 1
    node.views = [view("a", "ready")]
    assert node.run() == ["a"]
    node.residency.load("c")
    node.residency.load("c")
    assert node.run() == ["a", "c"]
    node.views.append(view("c", "ready"))
    assert node.run() == ["a", "c"]
    assert node.residency.units.by_name["c"].asked_at is None


async def test_deciding_goes_on_by_itself(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    node = Node(settings=ResidencySettings(idle_s=30))
    node.run()
    node.views = [view("a", "ready"), view("b", "ready")]
    wanted: list[list[str]] = []

    async def never(_: int) -> Any:
        await trio.sleep_forever()

    nursery.start_soon(node.residency.run, never, lambda: 0, lambda: wanted.append(node.run()))
    await trio.sleep(20)
    node.ask("b", waiting=0, active=1)
    await trio.sleep(15)
    assert wanted[-1] == ["b"]
    nursery.cancel_scope.cancel()


async def test_nothing_is_decided_before_the_first_look_at_the_gpus(autojump_clock: MockClock) -> None:
    node = Node()
    node.residency._box = replace(node.residency._box, looks_at=lambda _: True)
    assert node.run() == []
    assert not node.residency.has_decided()
    assert node.residency.notes()["a"].phase == "starting"
    node.residency._box = replace(node.residency._box, looks_at=lambda _: False)
    assert node.run() == ["a"]
    assert node.residency.has_decided()


async def test_how_long_a_load_will_take(autojump_clock: MockClock) -> None:
    node = Node()
    node.run()
    node.views = [view("a", "starting", progress=0.5)]
    node.run()
    first = node.residency.notes()["a"].ready_at
    assert first is not None
    await trio.sleep(6)
    node.views = [view("a", "ready")]
    node.run()
    unit = node.residency.units.by_name["a"]
    assert unit.load_s == 6
    assert unit.context_length == 64


async def test_facts_outlive_the_process(autojump_clock: MockClock) -> None:
    node, store = Node(), MemoryStateStore()
    node.run()
    unit = node.residency.units.by_name["a"]
    unit.load_s, unit.memory_bytes, unit.context_length = 3.5, 2 * GIB, 64
    await ModelFacts(store, node.residency.units, list).keep(unit, in_main_memory=False)

    again = Node()
    await ModelFacts(store, again.residency.units, list).restore()
    again.wanted = (instance("a"), replace(instance("b"), argv=("worker", "--model", "/m/other.gguf")))
    again.run()
    known = again.residency.units.by_name["a"]
    assert (known.load_s, known.memory_bytes, known.context_length) == (3.5, 2 * GIB, 64)
    other = Node(
        wanted=(replace(instance("a"), argv=("worker", "--model", "/m/new.gguf", "--served-model-name", "a")),)
    )
    await ModelFacts(store, other.residency.units, list).restore()
    other.run()
    assert other.residency.units.by_name["a"].load_s is None


async def test_what_front_ends_say_adds_up(autojump_clock: MockClock) -> None:
    board = DemandBoard()
    await trio.sleep(100)
    board.note("one", [ModelDemand("a", 2, 5.0, 1, 3.0)])
    board.note("two", [ModelDemand("a", 1, 7.0, 0, 1.0), ModelDemand("b", 0, 0, 0, 4.0)])
    now = trio.current_time()
    use = board.use("a")
    assert (use.waiting, use.oldest, use.active, use.last_use) == (3, now - 7, 1, now)
    assert board.use("b").last_use == now - 4
    board.forget("one")
    await trio.sleep(10)
    assert (board.use("a").waiting, board.use("a").active) == (1, 0)
    assert board.use("a").last_use == now
    assert board.use("nobody").waiting == 0


async def test_held_requests_are_counted(autojump_clock: MockClock) -> None:
    held, name = HeldRequests(), ModelName("a")
    with held.hold(name):
        await trio.sleep(2)
        with held.hold(name):
            await trio.sleep(3)
            assert held.counts() == {name: Held(2, 5.0)}
        assert held.counts() == {name: Held(1, 5.0)}
    assert held.counts() == {}
    with trio.fail_after(1):
        await held.changed()


def test_held_requests_are_not_in_work() -> None:
    demand = compose_demand(
        {ModelName("a"): Held(2, 1.5), ModelName("b"): Held(1, 1.0)}, {"a": (5, -1.0), "c": (1, 2.0)}
    )
    assert [(one.model, one.waiting, one.active) for one in demand.models] == [("a", 2, 3), ("b", 1, 0), ("c", 0, 1)]


def test_a_held_request_hears_what_keeps_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ModelRecord(name=ModelName("b"), phase="cold", created=0, reason="no replica is wanted")
    note = ResidenceNote(phase="starting", reason="loading b", ready_at=1012.4, context_length=64)
    catalog = Catalog()
    catalog.set_records(with_residence([record], {"b": note}))
    assert catalog.record("b").context_length == 64
    monkeypatch.setattr("appliance.frontend.catalog.time.time", lambda: 1000.0)
    with (
        pytest.raises(ModelNotReady, match=r"too late \(loading b, about 12 s left\)") as caught,
        catalog.reasons(ModelName("b")),
    ):
        raise ModelNotReady("too late", retry_after_s=5)
    assert caught.value.retry_after_s == 13


def test_a_model_that_is_ready_needs_no_note() -> None:
    ready = ModelRecord(name=ModelName("b"), phase="ready", created=0)
    note = ResidenceNote(phase="cold", reason="it is not loaded")
    assert with_residence([ready], {"b": note}) == [ready]


def sleepy_view(name: str, phase: WorkerPhase = "ready", levels: tuple[int, ...] = (1, 2)) -> WorkerView:
    card = ModelCard(name=ModelName(name), context_length=64, engine="vllm", sleep_levels=levels)
    return replace(view(name, phase), card=card if phase == "ready" else None)


def sleepy_node(*, level: int = 1, levels: tuple[int, ...] = (1, 2)) -> Node:
    """A node on which a has made room for b as its engine and the settings have it."""
    node = Node(settings=ResidencySettings(max_models=1, sleep_level=level))
    node.run()
    node.views = [sleepy_view("a", levels=levels)]
    node.run()
    node.ask("b")
    node.run()
    return node


async def test_a_model_makes_room_by_sleep_and_is_woken(autojump_clock: MockClock) -> None:
    node = sleepy_node()
    assert node.orders == [(WorkerId("w-a"), Sleep(1, 30.0))]
    assert node.run() == ["a"], "its process stays, and b waits until it sleeps"
    assert node.sleepers.shown(node.views[0]) == ("falling asleep", 1000.0)
    assert [one.phase for one in node.sleepers.as_front_ends_see(node.views)] == ["draining"]
    node.now = 1007.0
    node.sleepers.on_slept(WorkerId("w-a"))
    assert node.sleepers.shown(node.views[0]) == ("sleeping", 1007.0)
    assert node.sleepers.shown(replace(node.views[0], phase="backoff")) is None, "its process has ended meanwhile"
    assert node.sleepers.as_front_ends_see(node.views) == []
    assert node.run() == ["a", "b"]
    assert node.residency.notes()["a"].phase == "asleep"

    node.views.append(sleepy_view("b"))
    node.ask("b", waiting=0)
    node.run()
    await trio.sleep(20)
    node.ask("a")
    node.run()
    node.sleepers.on_slept(WorkerId("w-b"))
    node.run()
    assert node.orders[1:] == [(WorkerId("w-b"), Sleep(1, 30.0)), (WorkerId("w-a"), Wake())]
    assert node.residency.notes()["a"].reason == "waking a"
    assert node.sleepers.shown(node.views[0]) == ("waking", 1007.0)
    assert [one.id for one in node.sleepers.as_front_ends_see(node.views)] == []
    node.sleepers.on_woke(WorkerId("w-a"))
    node.run()
    assert "a" not in node.residency.notes()
    assert [one.id for one in node.sleepers.as_front_ends_see(node.views)] == ["w-a"]
    assert node.sleepers.shown(node.views[0]) is None
    assert [event.action for event in node.events] == ["load", "sleep", "load", "sleep", "wake"]


@pytest.mark.parametrize(("level", "levels", "sleeps_at"), [(2, (1,), 1), (2, (1, 2), 2), (0, (1,), 0), (1, (), 0)])
async def test_how_deep_a_model_sleeps(
    level: int, levels: tuple[int, ...], sleeps_at: int, autojump_clock: MockClock
) -> None:
    node = sleepy_node(level=level, levels=levels)
    assert [order for _, order in node.orders] == ([Sleep(sleeps_at, 30.0)] if sleeps_at else [])
    assert node.run() == (["a"] if sleeps_at else [])


async def test_one_that_cannot_sleep_is_ended_and_not_told_again(autojump_clock: MockClock) -> None:
    node = sleepy_node()
    node.sleepers.on_failed(WorkerId("w-a"), "cannot sleep: no memory")
    assert node.run() == []
    assert node.events[-1].reason == "cannot sleep: no memory"
    node.views = []
    assert node.run() == ["b"]
    assert node.replaced == []
    assert node.residency.units.by_name["a"].sleepless


async def test_one_that_cannot_wake_is_replaced(autojump_clock: MockClock) -> None:
    node = sleepy_node()
    node.sleepers.on_slept(WorkerId("w-a"))
    node.ask("b", waiting=0)
    node.ask("a")
    node.run()
    node.sleepers.on_failed(WorkerId("w-a"), "cannot wake: out of memory")
    assert node.replaced == ["w-a"]
    assert node.run() == ["a"], "supervision starts it anew"
    assert node.sleepers.as_front_ends_see(node.views) == []
    node.views = [view("a", "starting")]
    node.run()
    assert node.sleepers.of(WorkerId("w-a")) is Rest.LOST
    node.views = [replace(sleepy_view("a"), id=WorkerId("w-a2"))]
    node.run()
    assert "a" not in node.residency.notes()
    assert node.sleepers.of(WorkerId("w-a")) is None


async def test_one_that_ends_in_its_sleep_is_cold(autojump_clock: MockClock) -> None:
    node = sleepy_node()
    node.sleepers.on_slept(WorkerId("w-a"))
    node.run()
    node.views = [sleepy_view("a", "backoff")]
    assert node.run() == ["b"]
    assert node.events[-1].reason == "a worker of it ended while it slept"


async def test_a_user_ends_a_sleeping_model(autojump_clock: MockClock) -> None:
    node = sleepy_node()
    node.sleepers.on_slept(WorkerId("w-a"))
    node.run()
    node.residency.unload("a", lambda: None)
    assert node.run() == ["b"]
