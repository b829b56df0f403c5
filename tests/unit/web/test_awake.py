"""The outcome of tasks that are woken by hand."""

import trio

from appliance.web.awake import AWAKE


async def test_wakes_any_number_of_tasks_with_nothing() -> None:
    woken: list[object] = []

    async def sleeper() -> None:
        for _ in range(2):
            asleep.append(trio.lowlevel.current_task())
            woken.append(await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED))

    asleep: list[trio.lowlevel.Task] = []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(sleeper)
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            while asleep:
                trio.lowlevel.reschedule(asleep.pop(), AWAKE)
    assert woken == [None] * 6
