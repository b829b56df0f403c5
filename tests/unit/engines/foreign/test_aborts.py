"""Telling a server of cancelled streams: in order, past failures, and never in the way of whoever cancels."""

import trio
from trio.testing import wait_all_tasks_blocked

from appliance.core.errors import WorkerLost
from appliance.engines.foreign import aborts
from appliance.engines.foreign.aborts import AbortQueue


async def test_each_is_told_once_also_after_one_that_cannot_be(nursery: trio.Nursery) -> None:
    told: list[str] = []

    async def tell(name: str) -> None:
        told.append(name)
        if name == "b":
            raise WorkerLost("the server is gone")

    queue = AbortQueue(tell)
    queue.note("a")
    nursery.start_soon(queue.run)
    for name in ("b", "c"):
        queue.note(name)
    await wait_all_tasks_blocked()
    assert told == ["a", "b", "c"]


async def test_what_does_not_fit_is_dropped() -> None:
    told: list[str] = []

    async def tell(name: str) -> None:
        told.append(name)

    queue = AbortQueue(tell)
    for number in range(aborts.MOST_WAITING + 5):
        queue.note(str(number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert told == [str(number) for number in range(aborts.MOST_WAITING)]
