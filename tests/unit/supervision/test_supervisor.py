"""The supervisor over fake processes in virtual time."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import Conflict, InternalError, ModelNotReady, NotFound
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.supervision.process import LaunchPlan
from appliance.supervision.supervisor import Supervisor
from tests.helpers.instances import FakeWorld, make_instance


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
async def supervisor(world: FakeWorld) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(world.make())
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        yield supervisor
        nursery.cancel_scope.cancel()


async def start_ready(supervisor: Supervisor, *instances: ComponentInstance) -> None:
    """Want these instances and have all of them serve."""
    supervisor.set_wanted(instances)
    await wait_all_tasks_blocked()
    for view in supervisor.views():
        assert supervisor.on_ready(view.id, None)
    await wait_all_tasks_blocked()


async def test_views_are_in_order_and_say_what_runs(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    await start_ready(supervisor, make_instance(10), make_instance(9), make_instance(component="a"))
    assert [view.key for view in supervisor.views()] == ["serve/a/0", "serve/worker/9", "serve/worker/10"]
    assert {view.phase for view in supervisor.views()} == {"ready"}


async def test_draining_is_seen_and_announced(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    await start_ready(supervisor, make_instance())
    seen = supervisor.version
    supervisor.set_wanted([])
    with trio.fail_after(0.001):
        while supervisor.views()[0].phase != "draining":
            seen = await supervisor.wait_changed(seen)


async def test_wanting_the_same_again_changes_nothing(
    world: FakeWorld, supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    await start_ready(supervisor, make_instance())
    for _ in range(3):
        supervisor.set_wanted([make_instance()])
        await wait_all_tasks_blocked()
    assert len(world.processes.children) == 1


async def test_messages_for_unknown_workers_are_refused(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    assert not supervisor.on_ready(WorkerId("nobody"), None)
    assert not supervisor.on_progress(WorkerId("nobody"), 0.1, "x")
    assert not supervisor.on_start_failed(WorkerId("nobody"), "x", "y", False)
    with pytest.raises(NotFound):
        supervisor.logs("serve/worker/0")
    with pytest.raises(NotFound):
        await supervisor.ensure_ready("serve/worker/0")


async def test_ensure_ready_of_a_final_failure_says_why(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    supervisor.set_wanted([make_instance()])
    await wait_all_tasks_blocked()
    supervisor.on_start_failed(supervisor.views()[0].id, "bad_model", "the model file is truncated", True)
    with pytest.raises(ModelNotReady, match="truncated"), trio.fail_after(30):
        await supervisor.ensure_ready("serve/worker/0")


async def test_a_second_shut_down_hurries_the_first(
    world: FakeWorld, supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    await start_ready(supervisor, make_instance(), make_instance(component="f", type="frontend"))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.shut_down, 30.0, 5.0)
        await trio.sleep(2)
        nursery.start_soon(supervisor.shut_down, 0.0, 1.0)
    assert trio.current_time() - began == pytest.approx(2)
    assert supervisor.views() == []
    assert {tuple(child.signals) for child in world.processes.children} == {("TERM",)}


async def test_shut_down_ends_although_a_process_is_stuck_in_the_kernel(
    world: FakeWorld, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor(world.make())
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await start_ready(supervisor, make_instance())
        world.processes.last.stuck = True
        began = trio.current_time()
        await supervisor.shut_down(1.0, 1.0)
    assert trio.current_time() - began <= (1 + 1 + 5 + 1) + (1 + 5 + 1) + 5
    assert world.processes.last.signals[:2] == ["TERM", "KILL"]
    assert "stuck" in world.actions


async def test_nothing_is_started_once_it_shuts_down(
    world: FakeWorld, supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    await supervisor.shut_down(1.0, 1.0)
    supervisor.set_wanted([make_instance()])
    await trio.sleep(1)
    assert world.processes.children == []


async def test_cancelling_run_kills_every_process(world: FakeWorld, autojump_clock: MockClock) -> None:
    supervisor = Supervisor(world.make())
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await start_ready(supervisor, make_instance(0), make_instance(1))
        nursery.cancel_scope.cancel()
    assert world.processes.alive == []
    with pytest.raises(InternalError, match="twice"):
        await supervisor.run()


async def test_a_launch_that_is_refused_is_an_early_exit_in_words(world: FakeWorld, autojump_clock: MockClock) -> None:
    def refuse(instance: ComponentInstance, worker: WorkerId) -> LaunchPlan:
        raise Conflict("no GPU with 24 GB free")

    supervisor = Supervisor(replace(world.make(), launch=refuse))
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.set_wanted([make_instance()])
        await trio.sleep(0.1)
        view = supervisor.views()[0]
        assert (view.phase, view.reason) == ("backoff", "no GPU with 24 GB free")
        await supervisor.shut_down(1.0, 1.0)


async def test_logs_of_gone_instances_are_kept_up_to_a_bound(
    world: FakeWorld, supervisor: Supervisor, autojump_clock: MockClock
) -> None:
    for index in range(40):
        supervisor.set_wanted([make_instance(index)])
        await trio.sleep(6)
    keys = supervisor.log_keys()
    assert keys[-1] == "serve/worker/39"
    assert len(keys) <= 34
