"""What front ends report of their requests, and what the node makes of it."""

import trio
from trio.testing import MockClock

from appliance.core.identity import ModelName
from appliance.roles.demand_reports import compose_demand
from appliance.roles.node.demand import DemandBoard
from appliance.routing.held import Held, HeldRequests
from appliance.wire.bus_messages import ModelDemand


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
