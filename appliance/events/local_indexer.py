"""The worker's side of the event plane: takes the engine's cache events, numbers, sends and remembers them."""

from collections.abc import Callable

from trio.lowlevel import ParkingLot

from appliance.core.errors import NotFound
from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply
from appliance.events.rank_record import KEPT_BLOCKS, KEPT_EVENTS, RankRecord

Publish = Callable[[int, int, list[KvEvent]], None]
"""Sends a rank's events, the first with this id, to every front end. Never blocks, never raises."""


class LocalIndexer:
    """Publishes what the engine reports, once per pass of the scheduler, and answers front ends that missed some.

    Implements `KvEventLog`. Clearing is a matter of the whole worker: it is put on record for every rank, so that each
    rank's events, and any part of them, tell the truth about the rank by themselves.
    """

    def __init__(self, ranks: range, *, kept_events: int = KEPT_EVENTS, kept_blocks: int = KEPT_BLOCKS) -> None:
        self.dropped = 0
        """Events that were not passed on: of an unknown rank, or with numbers that are no hashes."""
        self._records = {rank: RankRecord(kept_events=kept_events, kept_blocks=kept_blocks) for rank in ranks}
        self._pending: list[tuple[int, int, list[KvEvent]]] = []
        self._sleeper = ParkingLot()

    @property
    def unfounded(self) -> int:
        """Events about blocks, or after parents, that were not stored before: the engine lost count."""
        return sum(record.unfounded for record in self._records.values())

    def take(self, rank: int, events: list[KvEvent]) -> None:
        """Put a rank's events on record and publish them soon; see `KvEventSource`. Only on the trio thread."""
        if rank not in self._records:
            self.dropped += len(events)
            return
        for event in events:
            for target in self._records if isinstance(event, ClearedBlocks) else (rank,):
                self._add(target, event)

    def answer(self, rank: int, start_id: int | None) -> list[KvReply]:
        """See `KvEventLog`."""
        if rank not in self._records:
            raise NotFound(f"cannot tell what rank {rank} holds: the worker has no such rank")
        return self._records[rank].answer(start_id)

    def blocks(self) -> int:
        """Blocks held over all ranks and tiers."""
        return sum(map(len, self._records.values()))

    async def run(self, publish: Publish) -> None:
        """Publish until cancelled: what gathered in one pass of the scheduler goes out in the next, in one message."""
        while True:
            self.flush(publish)
            await self._sleeper.park()  # no deadline: sleeps until the engine has something to say

    def flush(self, publish: Publish) -> None:
        """Publish what has gathered."""
        pending, self._pending = self._pending, []
        for rank, first_id, events in pending:
            publish(rank, first_id, events)

    def _add(self, rank: int, event: KvEvent) -> None:
        record = self._records[rank]
        if not record.add(event):
            self.dropped += 1
        elif self._pending and self._pending[-1][0] == rank:
            self._pending[-1][2].append(event)
        else:
            self._pending.append((rank, record.newest_id, [event]))
            self._sleeper.unpark()
