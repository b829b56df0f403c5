"""How busy one worker is, over all its links."""

from collections import Counter

import trio
from trio.lowlevel import ParkingLot

from appliance.telemetry.cells import HistogramCell
from appliance.telemetry.metric_table import WORKER_SECONDS


class WorkerLoad:
    """Counts streams; knows whether new ones are taken."""

    def __init__(self, max_running: int) -> None:
        self.draining = False
        self.served = 0
        """Streams that have ended, by whatever way."""
        self.chunks = 0
        """Chunks that engines gave, over all streams."""
        self.durations = HistogramCell(WORKER_SECONDS)
        """Seconds that streams were open, those that have ended."""
        self.failed: Counter[str] = Counter()
        """Streams without a good end: `cancelled` by their front end, or by the code of their error."""
        self._max_running = max_running
        self._open = 0
        self._idle = ParkingLot()

    @property
    def open(self) -> int:
        """Streams that have not ended."""
        return self._open

    @property
    def running(self) -> int:
        """Open streams, as many as the engine runs at once."""
        return min(self._open, self._max_running)

    @property
    def waiting(self) -> int:
        """Open streams above that."""
        return self._open - self.running

    def enter(self) -> None:
        """A stream was opened."""
        self._open += 1

    def leave(self, seconds: float = 0.0, outcome: str = "") -> None:
        """A stream has ended after so long; `outcome` is the code of its error, `cancelled`, or empty."""
        self._open -= 1
        self.served += 1
        self.durations.observe(seconds)
        if outcome:
            self.failed[outcome] += 1
        if not self._open:
            self._idle.unpark_all()

    async def idle(self) -> None:
        """Return when no stream is open. A checkpoint; the caller bounds it."""
        await trio.lowlevel.checkpoint()
        while self._open:
            await self._idle.park()
