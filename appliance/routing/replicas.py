"""What other routers have placed on the workers of this one: counted as load, and dropped when they leave."""

from appliance.routing.pool import Pool
from appliance.routing.replica_sync import BookingAdded
from appliance.routing.slots import Slot

Key = tuple[str, int]
"""A router and its own number of the booking."""
UNKNOWN: tuple[Slot | None, float] = (None, 0.0)


class ReplicaBookings:
    """Streams of other routers in one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._bookings: dict[Key, tuple[Slot, float]] = {}
        """Where each stream runs, and since when; the oldest first."""

    def __len__(self) -> int:
        return len(self._bookings)

    def add(self, event: BookingAdded, now: float) -> None:
        """Count a stream. One of an unknown worker, and one that is counted already, change nothing."""
        key = event.router, event.key
        slot = self._pool.find(event.worker, event.rank)
        if slot is None or key in self._bookings:
            return
        self._bookings[key] = slot, now
        slot.streams += 1
        if event.booked:
            slot.load.book(
                key,
                event.isl,
                cached=event.cached_tokens,
                hashes=event.hashes,
                unshared=event.own_blocks,
                track_prefill=event.track_prefill,
                expected_output=event.expected_output,
            )
            self._pool.weigh(slot)

    def complete_prefill(self, router: str, key: int, now: float) -> None:
        """A stream has its first token."""
        slot, _ = self._bookings.get((router, key), UNKNOWN)
        if slot is not None and (router, key) in slot.load:
            slot.load.complete_prefill((router, key), now)
            self._pool.weigh(slot)

    def free(self, router: str, key: int, now: float) -> None:
        """A stream has ended. An unknown one changes nothing."""
        slot, _ = self._bookings.pop((router, key), UNKNOWN)
        if slot is not None:
            slot.streams -= 1
            slot.load.free((router, key), now)
            self._pool.weigh(slot)

    def drop_router(self, router: str, now: float) -> None:
        """A router has left: its streams have ended with it."""
        for name, key in [one for one in self._bookings if one[0] == router]:
            self.free(name, key, now)

    def expire(self, before: float, now: float) -> int:
        """Drop streams that were placed before a time, as the word of their end must be lost; how many there were."""
        old = [one for one, (_, since) in self._bookings.items() if since < before]
        for name, key in old:
            self.free(name, key, now)
        return len(old)
