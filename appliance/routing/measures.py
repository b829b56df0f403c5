"""What the router counts about itself: time spent in each part of a placement, prefix hits, applied events."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

MILLISECONDS = tuple(0.001 * 2**step for step in range(17))
"""Upper bounds from a microsecond to 65 ms."""
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


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


class RouterMeasures:
    """Counts of one router, all models together. Read them at any time; nothing is ever reset."""

    def __init__(self) -> None:
        self.block_hashing_ms = Histogram(MILLISECONDS)
        self.sequence_hashing_ms = Histogram(MILLISECONDS)
        self.find_matches_ms = Histogram(MILLISECONDS)
        self.scheduling_ms = Histogram(MILLISECONDS)
        """Eligibility, cost, choice and booking."""
        self.total_ms = Histogram(MILLISECONDS)
        """All of a placement but waiting in the queue. Only mode `kv` fills these."""
        self.kv_hit_rate = Histogram(SHARES)
        """Per request: blocks in the chosen slot's device memory by blocks of the prompt."""
        self.requests: Counter[str] = Counter()
        """Placements by role."""
        self.events: Counter[tuple[str, str]] = Counter()
        """Cache events by kind (`stored`, `removed`, `cleared`) and outcome."""
