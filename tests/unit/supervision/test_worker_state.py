"""The state of a worker: moves by the table, waits without a lost change, wishes to stop."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import InternalError
from appliance.supervision.states import Phase
from appliance.supervision.worker_state import StopWish, WorkerState, in_seconds
from tests.helpers.instances import FakeWorld, make_instance


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def state(world: FakeWorld) -> WorkerState:
    return WorkerState(make_instance(), world.make(), lambda: None)


def test_a_move_that_is_not_in_the_table_is_a_fault_and_changes_nothing(state: WorkerState) -> None:
    with pytest.raises(InternalError, match="from starting to draining"):
        state.move(Phase.DRAINING, "test")
    assert (state.phase, state.reason) == (Phase.STARTING, "wanted by its graph")


def test_only_the_last_move_is_recorded_by_itself(state: WorkerState, world: FakeWorld) -> None:
    state.move(Phase.BACKOFF, "its process ended")
    assert world.actions == []
    state.move(Phase.STOPPED, "scaled down")
    assert [(event.action, event.reason) for event in world.events] == [("stop", "scaled down")]


@pytest.mark.parametrize(
    ("drain_until", "term_s", "expected"), [(5.0, 9.0, (5.0, 2.0)), (20.0, 1.0, (10.0, 1.0)), (20.0, 9.0, (10.0, 2.0))]
)
def test_of_two_wishes_each_earlier_deadline_and_the_first_reason_hold(
    drain_until: float, term_s: float, expected: tuple[float, float]
) -> None:
    wish = StopWish("scaled down", 10.0, 2.0).hurried_by(StopWish("deleted", drain_until, term_s))
    assert wish == StopWish("scaled down", *expected)


async def test_a_wait_ends_with_the_fact_or_at_its_deadline(state: WorkerState, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    assert not await state.until(lambda: state.leaving, in_seconds(3))
    assert trio.current_time() - began == pytest.approx(3)

    async def ask_to_stop() -> None:
        await wait_all_tasks_blocked()
        state.stop = StopWish("scaled down", math.inf, 1.0)
        state.tell()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_to_stop)
        assert await state.until(lambda: state.leaving, in_seconds(3))
    assert trio.current_time() - began == pytest.approx(3)


async def test_a_deadline_is_looked_at_anew_after_each_change(state: WorkerState, autojump_clock: MockClock) -> None:
    began, deadline = trio.current_time(), [10.0]

    async def hurry() -> None:
        await trio.sleep(1)
        deadline[0] = 2.0
        state.wake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hurry)
        assert not await state.until(lambda: False, lambda: began + deadline[0])
    assert trio.current_time() - began == pytest.approx(2)
