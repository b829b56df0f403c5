"""What this front end's router tells those of the others, gathered for a moment so that many make one message.

A stream that comes and goes within that moment is never told: nobody could have acted on it.
"""

import logging
from collections.abc import Callable

import msgspec
import trio

from appliance.core.errors import LinkBroken
from appliance.routing.replica_sync import BookingAdded, BookingFreed, PrefillCompleted, ReplicaEvent

log = logging.getLogger(__name__)

GATHER_S = 0.01
"""How long reports are gathered. Each message costs every process on the way a wake-up, however much is in it."""
MOST = 20_000
"""Reports of one kind that are kept while the supervisor takes none; then the oldest ones are lost."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[ReplicaEvent]).decode

Send = Callable[[bytes], bool]
"""Takes a message; False, without having taken it, while the one before has not left."""


class PlacementReporter:
    """`report` is a router's `Report`; `run` sends what it gathers."""

    def __init__(self) -> None:
        self.lost = 0
        """Reports dropped because the supervisor was too slow; others drop what they then never hear the end of."""
        self._added: dict[int, BookingAdded] = {}
        self._in_output: dict[int, PrefillCompleted] = {}
        self._freed: dict[int, BookingFreed] = {}
        self._news = trio.Event()
        self._asleep = True

    def report(self, event: ReplicaEvent) -> None:
        """Keep a report for the next message. Neither blocks nor raises."""
        key = event.key
        if isinstance(event, BookingAdded):
            self._added[key] = event
        elif isinstance(event, PrefillCompleted):
            self._in_output[key] = event
        else:
            self._in_output.pop(key, None)
            if self._added.pop(key, None) is not None:
                return
            self._freed[key] = event
        if self._asleep:
            self._asleep = False
            self._news.set()

    async def run(self, send: Send) -> None:
        """Send reports for ever."""
        while True:
            await self._news.wait()  # no deadline: there is nothing to tell until something is placed
            await trio.sleep(GATHER_S)
            self._bound()
            if not (self._added or self._in_output or self._freed) or send(self._message()):
                self._clear()

    def take(self) -> bytes:
        """What was gathered, as a message; nothing is kept of it."""
        message = self._message()
        self._clear()
        return message

    def _message(self) -> bytes:
        # An end never comes before its beginning: a stream that is in both parts began in an earlier message.
        events = [*self._added.values(), *self._in_output.values(), *self._freed.values()]
        return _encode(events)

    def _clear(self) -> None:
        self._added.clear()
        self._in_output.clear()
        self._freed.clear()
        self._asleep = True
        self._news = trio.Event()

    def _bound(self) -> None:
        for kept in (self._added, self._in_output, self._freed):
            over = len(kept) - MOST
            if over > 0:
                if not self.lost:
                    log.warning("the supervisor is too slow: reports of placements to other front ends are dropped")
                self.lost += over
                for key in list(kept)[:over]:
                    del kept[key]


def read_reports(data: bytes) -> list[ReplicaEvent]:
    """The reports in a message of another front end. Raises `LinkBroken` for anything else."""
    try:
        return _decode(data)
    except (ValueError, RecursionError) as fault:  # msgspec's errors are ValueErrors
        raise LinkBroken(f"cannot read reports of placements: {fault}") from fault
