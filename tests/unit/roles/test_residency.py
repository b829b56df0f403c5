"""Residency on a node: which models are loaded, by requests, by users, and what is remembered of loads."""

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from appliance.core.errors import Conflict, NotFound
from appliance.core.gpus import GIB
from appliance.core.settings import ResidencySettings
from appliance.roles.node.model_facts import ModelFacts
from appliance.state.memory import MemoryStateStore
from tests.helpers.resident_node import ResidentNode, instance, view


async def test_a_request_for_a_cold_model_swaps_it_in(autojump_clock: MockClock) -> None:
    node = ResidentNode()
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
    node = ResidentNode()
    node.run()
    for phase in ("starting", "backoff", "starting"):
        node.views = [view("a", phase)]
        assert node.run() == ["a"]
    assert [event.action for event in node.events] == ["load"]


async def test_a_failed_model_holds_nothing_and_stays_as_it_is(autojump_clock: MockClock) -> None:
    node = ResidentNode()
    node.run()
    node.views = [view("a", "failed")]
    node.ask("b")
    assert node.run() == ["a", "b"], "what has failed goes on being shown"
    assert "a" not in node.residency.notes()
    with pytest.raises(Conflict, match="its workers failed"):
        node.residency.load("a")


async def test_orders_of_a_user(autojump_clock: MockClock) -> None:
    node = ResidentNode(
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
    node = ResidentNode(settings=ResidencySettings(idle_s=30))
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
    node = ResidentNode()
    node.residency._box = replace(node.residency._box, looks_at=lambda _: True)
    assert node.run() == []
    assert not node.residency.has_decided()
    assert node.residency.notes()["a"].phase == "starting"
    node.residency._box = replace(node.residency._box, looks_at=lambda _: False)
    assert node.run() == ["a"]
    assert node.residency.has_decided()


async def test_how_long_a_load_will_take(autojump_clock: MockClock) -> None:
    node = ResidentNode()
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
    node, store = ResidentNode(), MemoryStateStore()
    node.run()
    unit = node.residency.units.by_name["a"]
    unit.load_s, unit.memory_bytes, unit.context_length = 3.5, 2 * GIB, 64
    await ModelFacts(store, node.residency.units, list).keep(unit, in_main_memory=False)

    again = ResidentNode()
    await ModelFacts(store, again.residency.units, list).restore()
    again.wanted = (instance("a"), replace(instance("b"), argv=("worker", "--model", "/m/other.gguf")))
    again.run()
    known = again.residency.units.by_name["a"]
    assert (known.load_s, known.memory_bytes, known.context_length) == (3.5, 2 * GIB, 64)
    other = ResidentNode(
        wanted=(replace(instance("a"), argv=("worker", "--model", "/m/new.gguf", "--served-model-name", "a")),)
    )
    await ModelFacts(store, other.residency.units, list).restore()
    other.run()
    assert other.residency.units.by_name["a"].load_s is None
