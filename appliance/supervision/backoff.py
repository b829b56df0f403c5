"""When a worker that ended unasked is started again, and when it is given up. Pure: no clock, no waiting."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from appliance.core.settings import SupervisionSettings

WINDOW_S = 60.0  # the span that `exits_per_minute` speaks of


@dataclass(frozen=True)
class Restart:
    """Start the worker again after this wait."""

    after_s: float
    why: str


@dataclass(frozen=True)
class GiveUp:
    """Leave the worker failed until its spec changes."""

    why: str


Verdict = Restart | GiveUp


class Backoff:
    """Memory of one worker's exits.

    An exit after READY restarts at once. An exit before READY, or one more than `exits_per_minute`, is an early one:
    the wait grows with each, and `max_early_exits` of them without a quiet time in between end in `GiveUp`.
    """

    def __init__(self, settings: SupervisionSettings, draw: Callable[[], float]) -> None:
        """`draw` gives a number in [0, 1) for the jitter."""
        self._settings = settings
        self._draw = draw
        self._exits: deque[float] = deque()
        self._early = 0

    @property
    def early_exits(self) -> int:
        """Early exits since the last quiet time."""
        return self._early

    def on_exit(self, *, now: float, ready_s: float | None) -> Verdict:
        """Judge an exit at `now` (any clock in seconds) of a worker that was ready for `ready_s`, None for never."""
        settings = self._settings
        if ready_s is not None and ready_s >= settings.quiet_s:
            self._early = 0
            self._exits.clear()
        self._exits.append(now)
        while self._exits[0] <= now - WINDOW_S:
            self._exits.popleft()
        if ready_s is not None and len(self._exits) <= settings.exits_per_minute:
            return Restart(0.0, "it had been ready")
        self._early += 1
        if self._early >= settings.max_early_exits:
            return GiveUp(f"{self._early} early exits in a row")
        why = "before it was ready" if ready_s is None else f"{len(self._exits)} exits within a minute"
        return Restart(self._wait_s(), f"early exit {self._early}: {why}")

    def _wait_s(self) -> float:
        settings = self._settings
        # The exponent is bounded because a float power of a large one overflows.
        grown = settings.backoff_first_s * settings.backoff_factor ** min(self._early - 1, 64)
        return min(grown, settings.backoff_cap_s) * (1 + settings.backoff_jitter * self._draw())
