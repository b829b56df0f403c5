"""Routers of the same workers tell each other their reservations, so that each sees the load of all.

A router that is new begins empty and converges as older reservations end; what a router that fell silent had placed is
dropped. Growth by output blocks is not told.
"""

import logging
from collections import Counter
from collections.abc import Callable
from itertools import count
from weakref import WeakKeyDictionary

import msgspec
import trio

from appliance.core.identity import ModelName, RequestId
from appliance.events.zmq_broadcast import Broadcast
from appliance.roles.indexer.registry import ModelKey
from appliance.roles.router.selection import Choice, Group, Selector
from appliance.routing.replica_sync import BookingAdded, BookingFreed, PrefillCompleted
from appliance.routing.replicas import ReplicaBookings

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
SILENT_S = 30.0


class Heartbeat(msgspec.Struct, frozen=True, tag="alive", array_like=True):
    """A router is still there."""

    router: str


Message = BookingAdded | PrefillCompleted | BookingFreed | Heartbeat


class ReplicaSync:
    """This router's side: tells its own reservations, and counts those of others as load of the selector's groups."""

    def __init__(self, selector: Selector, router_id: str, clock: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self.broadcast: Broadcast | None = None
        """Set while the role runs with replica sync."""
        self._selector, self._router, self._clock = selector, router_id, clock
        self._keys: dict[str, tuple[int, ModelName]] = {}
        self._next_key = count()
        self._bookings: WeakKeyDictionary[Group, ReplicaBookings] = WeakKeyDictionary()
        self._heard: dict[str, float] = {}

    def added(self, name: str, choice: Choice) -> None:
        """A reservation was made here."""
        key, model = next(self._next_key), ModelName(str(choice.worker.key))
        self._keys[name] = key, model
        prompt, weights, slot = choice.ask.prompt, choice.ask.weights, choice.slot
        own = 0 if prompt.hashes or not weights.track_active_blocks else prompt.blocks
        self._send(
            BookingAdded(
                self._router,
                key,
                model,
                False,
                RequestId(name),
                slot.worker,
                slot.rank,
                prompt.isl,
                choice.cached_tokens,
                True,
                list(prompt.hashes),
                own,
                weights.track_prefill_tokens,
            )
        )

    def prefill_completed(self, name: str) -> None:
        """The first token of a reservation made here is there."""
        if name in self._keys:
            self._send(PrefillCompleted(self._router, *self._keys[name], False))

    def freed(self, name: str) -> None:
        """A reservation made here has ended."""
        if name in self._keys:
            self._send(BookingFreed(self._router, *self._keys.pop(name), False))

    def take(self, payload: bytes) -> None:
        """What another router says; what cannot be read is counted."""
        try:
            message = msgspec.msgpack.decode(payload, type=Message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.counts["bad"] += 1
            return
        if message.router == self._router:
            return
        self.counts["taken"] += 1
        self._heard[message.router] = self._clock()
        if not isinstance(message, Heartbeat):
            self._apply(message)

    async def keep_alive(self) -> None:
        """Say regularly that this router is there, and drop those that are not, until cancelled."""
        while True:
            self._send(Heartbeat(self._router))
            now = self._clock()
            for router in [one for one, heard in self._heard.items() if now - heard > SILENT_S]:
                del self._heard[router]
                log.warning("a router has fallen silent router=%s", router)
                for bookings in self._bookings.values():
                    bookings.drop_router(router, now)
            await trio.sleep(HEARTBEAT_S)

    def _apply(self, message: BookingAdded | PrefillCompleted | BookingFreed) -> None:
        model, _, routing_group = message.model.rpartition(":")
        group = self._selector.groups.get(ModelKey(model, routing_group))
        if group is None:
            return
        bookings = self._bookings.get(group)
        if bookings is None:
            bookings = self._bookings[group] = ReplicaBookings(group.pool)
        match message:
            case BookingAdded():
                bookings.add(message, self._clock())
            case PrefillCompleted():
                bookings.complete_prefill(message.router, message.key, self._clock())
            case BookingFreed():
                bookings.free(message.router, message.key, self._clock())

    def _send(self, message: Message) -> None:
        if self.broadcast is not None:
            self.broadcast.publish(msgspec.msgpack.encode(message))
