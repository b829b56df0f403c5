"""Requests that are held until their model has a ready worker: how many, and since when."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from appliance.core.identity import ModelName


@dataclass(frozen=True)
class Held:
    """The held requests of one model."""

    count: int
    oldest_s: float
    """How long the first of them has waited."""


class HeldRequests:
    """Counts them. Times are trio's."""

    def __init__(self) -> None:
        self._since: dict[ModelName, dict[int, float]] = {}
        self._numbers = 0
        self._moved = trio.Event()

    @contextmanager
    def hold(self, model: ModelName) -> Iterator[None]:
        """Count a request as held within the block."""
        self._numbers += 1
        number, own = self._numbers, self._since.setdefault(model, {})
        own[number] = trio.current_time()
        self._moved.set()
        try:
            yield
        finally:
            del own[number]
            if not own:
                self._since.pop(model, None)
            self._moved.set()

    def counts(self) -> dict[ModelName, Held]:
        """Models with held requests."""
        now = trio.current_time()
        # In order of arrival: the first is the oldest.
        return {model: Held(len(own), now - next(iter(own.values()))) for model, own in self._since.items()}

    async def changed(self) -> None:
        """Wait until one is held, or no longer, since this was last called."""
        await self._moved.wait()  # no deadline: the caller sets one
        self._moved = trio.Event()
