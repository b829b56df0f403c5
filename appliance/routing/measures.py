"""What the router counts about itself: time spent in each part of a placement, prefix hits, applied events."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

HASHING_MS = tuple(0.001 * 2**step for step in range(15))
"""Upper bounds from a microsecond to 16 ms."""
PLACING_MS = tuple(0.01 * 3**step for step in range(17))
"""Upper bounds from ten microseconds on."""
SHARES = tuple(step / 20 for step in range(21))
TIMED_EVERY = 16
"""Timing all placements would cost as much as the choice itself; the share does not depend on what is placed."""


class Histogram:
    """Observations by upper bound, as Prometheus wants them but not yet cumulated."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """One per bound, and one for what is above all of them."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Stopwatch:
    """Times the parts of one placement."""

    __slots__ = ("_lap_began", "_started", "_timer")

    def __init__(self, timer: Callable[[], float]) -> None:
        """`timer` gives seconds."""
        self._timer = timer
        self._started = self._lap_began = timer()

    def lap(self, histogram: Histogram) -> None:
        """A part has ended: its milliseconds go to a histogram, and the next part begins."""
        ended = self._timer()
        histogram.observe((ended - self._lap_began) * 1e3)
        self._lap_began = ended

    def stop(self, histogram: Histogram) -> None:
        """All of it has ended, with the part before."""
        histogram.observe((self._lap_began - self._started) * 1e3)


class RouterMeasures:
    """Counts of one router, all models together. Read them at any time; nothing is ever reset.

    Milliseconds are those of every placement that `watch` chose to be timed.
    """

    def __init__(self) -> None:
        self.block_hashing_ms = Histogram(HASHING_MS)
        self.sequence_hashing_ms = Histogram(HASHING_MS)
        self.find_matches_ms = Histogram(PLACING_MS)
        self.scheduling_ms = Histogram(PLACING_MS)
        """Eligibility, cost, choice and booking."""
        self.total_ms = Histogram(PLACING_MS)
        """All of a placement but waiting in the queue. Only mode `kv` fills these."""
        self.kv_hit_rate = Histogram(SHARES)
        """Per request: blocks in the chosen slot's device memory by blocks of the prompt."""
        self.requests: Counter[str] = Counter()
        """Placements by role, in every mode; those that were only asked about are left out."""
        self.events: Counter[tuple[str, str]] = Counter()
        """Cache events by kind (`stored`, `removed`, `cleared`) and outcome."""
        self._until_timed = 0

    def watch(self, timer: Callable[[], float]) -> Stopwatch | None:
        """For a placement that begins now: a running stopwatch for the first of every `TIMED_EVERY`, else none."""
        if self._until_timed:
            self._until_timed -= 1
            return None
        self._until_timed = TIMED_EVERY - 1
        return Stopwatch(timer)
