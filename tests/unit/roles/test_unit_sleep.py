"""Models that leave by sleep: how deep, what wakes them, what becomes of those that cannot."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from appliance.core.identity import ModelName, WorkerId
from appliance.core.records import WorkerPhase
from appliance.core.requests import ModelCard
from appliance.core.settings import ResidencySettings
from appliance.roles.node.sleep import Rest
from appliance.supervision.views import WorkerView
from appliance.wire.bus_messages import Sleep, Wake
from tests.helpers.resident_node import ResidentNode, view


def sleepy_view(name: str, phase: WorkerPhase = "ready", levels: tuple[int, ...] = (1, 2)) -> WorkerView:
    card = ModelCard(name=ModelName(name), context_length=64, engine="vllm", sleep_levels=levels)
    return replace(view(name, phase), card=card if phase == "ready" else None)


def sleepy_node(*, level: int = 1, levels: tuple[int, ...] = (1, 2)) -> ResidentNode:
    """A node on which a has made room for b as its engine and the settings have it."""
    node = ResidentNode(settings=ResidencySettings(max_models=1, sleep_level=level))
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
