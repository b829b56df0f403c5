"""Workers that sleep, fall asleep or wake: orders to them, their answers, and the books of what they hold meanwhile."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from enum import StrEnum

from appliance.core.errors import NotRunning
from appliance.core.identity import WorkerId
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.views import WorkerView
from appliance.transport.bus_server import BusServer
from appliance.wire.bus_messages import Sleep, Wake

WORKER = "worker"


class Rest(StrEnum):
    """What a worker does that neither serves nor starts."""

    FALLING = "falling"
    """It finishes its streams, then falls asleep."""
    ASLEEP = "asleep"
    WAKING = "waking"
    LOST = "lost"
    """It could not do what it was told, and is to end."""


SHOWN = {Rest.FALLING: "falling asleep", Rest.ASLEEP: "sleeping", Rest.WAKING: "waking"}
"""What is said of a worker in place of its phase, which is that of its process."""


Push = Callable[[WorkerId, Sleep | Wake], None]
"""Sends an order. Raises `NotRunning` for a worker that is not on the bus."""


def push_to(bus: BusServer) -> Push:
    """Orders over the bus."""

    def push(worker: WorkerId, order: Sleep | Wake) -> None:
        child = bus.find(WORKER, worker)
        if child is None:
            raise NotRunning(f"{worker} is not connected")
        bus.push(child, order)

    return push


class Sleepers:
    """All workers at rest. A worker is forgotten once its process is gone."""

    def __init__(
        self,
        push: Push,
        replace_worker: Callable[[WorkerId, str], object],
        ledger: GpuLedger,
        on_change: Callable[[], None],
        drain_s: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`replace_worker` has a process that cannot wake killed and started anew; `drain_s`: what streams get.

        `clock`: unix time in seconds.
        """
        self._push, self._replace, self._ledger = push, replace_worker, ledger
        self._on_change, self._drain_s, self._clock = on_change, drain_s, clock
        self._rests: dict[WorkerId, Rest] = {}
        self._since: dict[WorkerId, float] = {}
        self.faults: dict[WorkerId, str] = {}
        """Why a worker is lost, in one line."""

    def of(self, worker: WorkerId) -> Rest | None:
        """What a worker does; None: it serves, or starts, or is not known."""
        return self._rests.get(worker)

    def shown(self, view: WorkerView) -> tuple[str, float] | None:
        """What to say of a worker in place of its phase, and since when in unix seconds; None: its phase says all."""
        rest = self._rests.get(view.id)
        if view.phase != "ready" or rest not in SHOWN:
            return None
        return SHOWN[rest], self._since[view.id]

    def sleep(self, workers: Collection[WorkerId], level: int) -> None:
        """Have workers finish their streams and fall asleep."""
        for worker in workers:
            self._set(worker, Rest.FALLING)
            self._order(worker, Sleep(level, self._drain_s()))

    def wake(self, workers: Collection[WorkerId]) -> None:
        """Have sleeping workers take their memory again, and serve."""
        for worker in workers:
            if self._rests.get(worker) is Rest.ASLEEP:
                self._set(worker, Rest.WAKING)
                self._ledger.wake(worker)
                self._order(worker, Wake())

    def on_slept(self, worker: WorkerId) -> None:
        """A worker sleeps now: its GPUs are others' to use."""
        if self._rests.get(worker) is Rest.FALLING:
            self._set(worker, Rest.ASLEEP)
            self._ledger.rest(worker)
            self._on_change()

    def on_woke(self, worker: WorkerId) -> None:
        """A worker serves again."""
        if self._rests.get(worker) is Rest.WAKING:
            self._unset(worker)
            self._on_change()

    def on_failed(self, worker: WorkerId, reason: str) -> None:
        """A worker could not fall asleep, which ends it, or could not wake, which has it replaced."""
        before = self._rests.get(worker)
        if before is None:
            return
        self._set(worker, Rest.LOST)
        self.faults[worker] = reason
        if before is Rest.WAKING:
            self._replace(worker, reason)
        self._on_change()

    def forget_gone(self, present: Collection[WorkerId]) -> None:
        """Forget workers whose processes are gone."""
        for worker in self._rests.keys() - set(present):
            self._unset(worker)
            self.faults.pop(worker, None)

    def as_front_ends_see(self, views: Sequence[WorkerView]) -> list[WorkerView]:
        """Those that fall asleep take no more; those that sleep are not there, so that front ends join them anew."""
        seen = []
        for view in views:
            rest = self._rests.get(view.id)
            if rest is Rest.FALLING and view.phase == "ready":
                seen.append(replace(view, phase="draining", reason="it falls asleep"))
            elif rest in (None, Rest.FALLING) or view.phase != "ready":
                seen.append(view)
        return seen

    def _set(self, worker: WorkerId, rest: Rest) -> None:
        self._rests[worker], self._since[worker] = rest, self._clock()

    def _unset(self, worker: WorkerId) -> None:
        del self._rests[worker], self._since[worker]

    def _order(self, worker: WorkerId, order: Sleep | Wake) -> None:
        try:
            self._push(worker, order)
        except NotRunning as error:
            self.on_failed(worker, error.message)
