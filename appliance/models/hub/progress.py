"""How far a download is, how fast, and when it will be done. Pure: the clock is passed in."""

from collections import deque
from collections.abc import Callable

GB, MB, KB = 1e9, 1e6, 1e3
WINDOW_S = 15.0  # of the rate: long enough to be calm, short enough to follow a changed network
LEAST_S = 1.0  # before a rate is believed


class Meter:
    """Counts the bytes of one pull."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._received = 0

    def skip(self, count: int) -> None:
        """Bytes that were here before; they say nothing about the rate."""
        self.done += count

    def add(self, count: int) -> None:
        """Bytes that have just come."""
        self.done += count
        self._received += count
        now = self._clock()
        self._marks.append((now, self._received))
        while len(self._marks) > 2 and self._marks[1][0] <= now - WINDOW_S:
            self._marks.popleft()

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 1.0

    @property
    def rate(self) -> float | None:
        """Bytes a second over the last seconds; None while it is not known."""
        at, received = self._marks[0]
        elapsed = self._clock() - at
        return (self._received - received) / elapsed if elapsed >= LEAST_S and self._received > received else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at this rate; None while it is not known."""
        rate = self.rate
        return None if rate is None else max(0, self.total - self.done) / rate

    def left(self) -> str:
        """The same in words, such as `about 2 min left`; empty while it is not known."""
        eta_s = self.eta_s
        return "" if eta_s is None else f"about {duration(eta_s)} left"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def amount(count: float) -> str:
    """Bytes in the unit that suits them, of 1000 each."""
    for unit, size in (("GB", GB), ("MB", MB), ("kB", KB)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
