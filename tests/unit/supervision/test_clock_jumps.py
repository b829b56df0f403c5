"""A wall clock that jumps changes stamps, never a wait: those count on the clock that only goes forward."""

import ast
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.core.settings import SupervisionSettings
from appliance.supervision.log_ring import LogRing
from appliance.supervision.process import LaunchPlan
from appliance.supervision.worker import WorkerTask
from tests.fakes.processes import FakeChild
from tests.helpers.instances import FakeWorld, make_instance

SUPERVISION = Path(__file__).parents[3] / "appliance/supervision"
STAMPS = {"log_ring.py", "surroundings.py"}
"""Where the clock of stamps comes from."""


async def starts_after_crashes(clock: Callable[[], float]) -> list[float]:
    """When a worker that crashes at once is started in 20 virtual seconds."""
    world = FakeWorld(settings=SupervisionSettings(backoff_jitter=0.0))
    began, times = trio.current_time(), []

    def spawn(plan: LaunchPlan) -> FakeChild:
        times.append(round(trio.current_time() - began, 3))
        child = world.processes.spawn(plan)
        child.exit(1)
        return child

    surroundings = replace(world.make(), clock=clock, spawn=spawn)
    worker = WorkerTask(make_instance(), surroundings, LogRing(clock=clock), lambda: None)
    with trio.move_on_after(20):
        await worker.run()
    return times


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0])
async def test_backoff_does_not_care_for_the_time_of_day(autojump_clock: MockClock, step: float) -> None:
    jumping = itertools.count(1_800_000_000.0, step)
    steady = await starts_after_crashes(lambda: 0.0)
    assert steady[:4] == [0.0, 0.5, 1.5, 3.5]
    assert await starts_after_crashes(lambda: next(jumping)) == steady


def test_no_wait_of_supervision_reads_the_time_of_day() -> None:
    readers = {
        module.name
        for module in SUPERVISION.glob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "time" and isinstance(node.value, ast.Name)
    }
    assert readers == STAMPS
