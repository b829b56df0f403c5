"""Runs an async function again and again, cancelled one task step later each time."""

from collections.abc import Awaitable, Callable

import trio

MOST_STEPS = 500


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope right before a task's n-th step."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._left = step
        self._task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def cancel_at_every_await(act: Callable[[], Awaitable[object]], check: Callable[[], Awaitable[None]]) -> int:
    """Cancel `act` at its first await, its second, ... until it ends uncancelled; `check` runs after each.

    Returns how many awaits there were.
    """
    for step in range(1, MOST_STEPS):
        with trio.CancelScope() as scope:
            instrument = _CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                await act()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await check()
        if not scope.cancelled_caught:
            return step - 1
    raise AssertionError(f"not done after {MOST_STEPS} steps")
