"""Cache events of workers that have not joined a pool yet: a link brings them while the model is still being learnt."""

from collections.abc import Iterable

from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent

MAX_EVENTS = 10_000  # over all workers; beyond, the oldest worker's go, and its prefixes are not found


class EarlyEvents:
    """Events by worker, in order."""

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self._max_events = max_events
        self._kept: dict[WorkerId, list[tuple[int, list[KvEvent]]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, worker: WorkerId, rank: int, events: Iterable[KvEvent]) -> None:
        """Keep events of a rank for later."""
        kept = list(events)
        self._kept.setdefault(worker, []).append((rank, kept))
        self._count += len(kept)
        while self._count > self._max_events:
            self.drop(next(iter(self._kept)))

    def take(self, worker: WorkerId) -> list[tuple[int, list[KvEvent]]]:
        """Everything of a worker, by rank as it came; it is not kept any longer."""
        found = self._kept.pop(worker, [])
        self._count -= sum(len(events) for _, events in found)
        return found

    def drop(self, worker: WorkerId) -> None:
        """Forget the events of a worker."""
        self.take(worker)
