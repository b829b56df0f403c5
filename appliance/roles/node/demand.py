"""What all front ends together have to do with each model, as they last said."""

import math
from dataclasses import dataclass

import trio

from appliance.supervision.changes import Changes
from appliance.wire.bus_messages import ModelDemand


@dataclass(frozen=True, kw_only=True)
class Use:
    """One model's demand over all front ends; times are trio's."""

    waiting: int = 0
    oldest: float = 0.0
    """Arrival of the request that waits longest; of no meaning when none waits."""
    active: int = 0
    last_use: float = -math.inf
    """When the last request ended; now while one runs."""


class DemandBoard:
    """The last report of each front end. One that has gone takes its requests with it."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, list[ModelDemand]]] = {}
        self._last_use: dict[str, float] = {}
        self.changes = Changes()

    def note(self, front_end: str, models: list[ModelDemand]) -> None:
        """Replace what a front end has said."""
        now = trio.current_time()
        self._reports[front_end] = now, models
        for one in models:
            if one.active or one.idle_s >= 0:
                last = now if one.active else now - one.idle_s
                self._last_use[one.model] = max(last, self._last_use.get(one.model, last))
        self.changes.bump()

    def forget(self, front_end: str) -> None:
        """A front end has left the bus."""
        if self._reports.pop(front_end, None) is not None:
            self.changes.bump()

    def use(self, model: str) -> Use:
        """The demand for one model now."""
        rows = [(at, one) for at, models in self._reports.values() for one in models if one.model == model]
        active = sum(one.active for _, one in rows)
        return Use(
            waiting=sum(one.waiting for _, one in rows),
            oldest=min((at - one.oldest_s for at, one in rows if one.waiting), default=0.0),
            active=active,
            last_use=trio.current_time() if active else self._last_use.get(model, -math.inf),
        )
