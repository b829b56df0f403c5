"""What the router counts about itself: time spent in each part of a placement, prefix hits, applied events."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

HASHING_MS = tuple(0.001 * 2**step for step in range(15))
"""Upper bounds from a microsecond to 16 ms."""
PLACING_MS = tuple(0.01 * 3**step for step in range(17))
"""Upper bounds from ten microseconds on."""
SHARES = tuple(step / 20 for step in range(21))


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
