"""Where one worker stands: its phase and the reason, the process that it has now, the wish that it ends.

The worker's task alone moves it; whoever needs to know waits for a change and looks again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from appliance.core.errors import InternalError
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.supervision.changes import Changes
from appliance.supervision.incarnation import Incarnation, new_worker_id
from appliance.supervision.states import MOVES, Phase
from appliance.supervision.surroundings import Surroundings


def _never() -> float:
    return math.inf


@dataclass(frozen=True)
class StopWish:
    """Why the worker shall stop, and by when (trio time) its requests must be done."""

    reason: str
    drain_until: float
    term_s: float

    def hurried_by(self, other: "StopWish") -> "StopWish":
        """This wish with the earlier of both deadlines."""
        return StopWish(self.reason, min(self.drain_until, other.drain_until), min(self.term_s, other.term_s))


class WorkerState:
    """The phase of one worker and the facts that decide about the next one."""

    def __init__(self, instance: ComponentInstance, world: Surroundings, on_change: Callable[[], None]) -> None:
        self._instance, self._world, self._on_change = instance, world, on_change
        self._changes = Changes()
        self.phase = Phase.STARTING
        self.reason = "wanted by its graph"
        self.since = world.clock()
        """Unix time of the last move."""
        self.id = new_worker_id(instance, world.random, unlike=None)
        """Of the process of now, or of the last one."""
        self.life: Incarnation | None = None
        self.stop: StopWish | None = None

    @property
    def leaving(self) -> bool:
        """True from the moment that a stop was asked for."""
        return self.stop is not None

    def move(self, to: Phase, why: str) -> None:
        """Go to another phase. Raises `InternalError` for a move that the table does not have."""
        if to not in MOVES[self.phase]:
            raise InternalError(f"cannot move worker {self.id} from {self.phase} to {to}")
        self.phase, self.reason, self.since = to, why, self._world.clock()
        if to is Phase.STOPPED:
            self.record("stop", why)
        self.tell()

    def explain(self, reason: str) -> None:
        """Give another reason for being in the same phase."""
        self.reason = reason
        self.tell()

    def record(self, action: str, reason: str, **inputs: Any) -> None:
        """Put a decision about this worker into the ledger."""
        subject = f"worker/{self.id}"
        inputs = {"instance": self._instance.key, **inputs}
        self._world.ledger(
            LedgerEvent(at=self._world.clock(), subject=subject, action=action, reason=reason, inputs=inputs)
        )

    def tell(self) -> None:
        """Something changed: have everybody look again."""
        self._changes.bump()
        self._on_change()

    def wake(self) -> None:
        """Have those who wait look again, though nothing changed that others see."""
        self._changes.bump()

    async def changed(self) -> None:
        """Wait for the next change. A caller that has looked since its last checkpoint misses none."""
        await self._changes.wait(self._changes.version)

    async def until(self, done: Callable[[], bool], deadline: Callable[[], float] = _never) -> bool:
        """Wait until a fact holds or the deadline (trio time, looked at anew after each change) has passed."""
        while not done() and trio.current_time() < deadline():
            with trio.move_on_at(deadline()):
                await self.changed()
        return done()


def in_seconds(seconds: float) -> Callable[[], float]:
    """A deadline for `WorkerState.until`, counted from now."""
    at = trio.current_time() + seconds
    return lambda: at
