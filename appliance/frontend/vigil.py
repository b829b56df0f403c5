"""Looks after answers that wait: one round a second over all of them, instead of a timer for each.

A timer costs a request as much as its routing; what is looked for here takes seconds at least.
"""

from collections.abc import Callable
from typing import Protocol

import trio

ROUND_S = 1.0


class Waiting(Protocol):
    """Something that is looked at in every round."""

    def on_round(self, now: float) -> None:
        """See whether the wait has become too long; `now` is trio time. Must not raise."""
        ...


class Vigil:
    """Everything that waits in one front end."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self.now: Callable[[], float] = trio.current_time
        """The present trio time."""

    def add(self, waiting: Waiting) -> None:
        """Look at it from the next round on, until `discard`."""
        self._waiting.add(waiting)

    def discard(self, waiting: Waiting) -> None:
        """Look at it no more. Safe to call twice."""
        self._waiting.discard(waiting)

    async def run(self) -> None:
        """Go round for ever. Without it nothing waits too long."""
        self.now = trio.lowlevel.current_clock().current_time  # looked up once, which is most of `trio.current_time`
        while True:
            await trio.sleep(ROUND_S)
            now = self.now()
            for waiting in tuple(self._waiting):
                waiting.on_round(now)
