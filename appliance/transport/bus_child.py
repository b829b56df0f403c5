"""The supervisor's end of the bus to one child."""

import logging
from itertools import count
from typing import Any, Protocol

import trio

from appliance.core.errors import ApplianceError, LinkBroken, WorkerLost, WorkerTimeout
from appliance.transport.connection import Connection
from appliance.transport.limits import LinkLimits
from appliance.transport.relay_queue import RelayQueue
from appliance.wire.bus_messages import (
    ChildHello,
    Demand,
    LastTotals,
    Picture,
    PlacementReports,
    Progress,
    Pull,
    Pulled,
    Ready,
    SleepFailed,
    Slept,
    StartFailed,
    ToChild,
    Woke,
)
from appliance.wire.framing import Buffer, encode, to_supervisor_decoder
from appliance.wire.streams import ByteStream

LOG = logging.getLogger(__name__)

ChildReport = Progress | Ready | StartFailed | PlacementReports | LastTotals | Demand | Slept | Woke | SleepFailed


class BusHandler(Protocol):
    """What the supervisor does with what children say. Calls must not block; one that raises ends that child's bus."""

    def on_hello(self, child: "BusChild") -> None:
        """A child said who it is."""

    def on_message(self, child: "BusChild", message: ChildReport) -> None:
        """A child reported."""

    def on_gone(self, child: "BusChild") -> None:
        """A child that had said hello is gone, or was replaced by another of its id. Nothing comes after it."""


class BusChild:
    """One child. Users get it in `BusHandler.on_hello`, with `role`, `id` and `pid` set."""

    def __init__(self, stream: ByteStream, limits: LinkLimits, handler: BusHandler) -> None:
        self.role = ""
        self.id = ""
        self.pid = 0
        self._limits = limits
        self._handler = handler
        self._connection = Connection(stream, limits, self._refill)
        self._decode = to_supervisor_decoder().decode
        self._greeted = trio.Event()
        self._picture: bytes | None = None  # the latest, while the child has not taken what it was sent before
        self._relays = RelayQueue(limits.relay_limit_bytes)
        self._told_of_loss = False
        self._next_call = count(1).__next__
        self._answers: dict[int, trio.Event] = {}
        self._pulled: dict[int, Any] = {}
        self._over = False

    def __repr__(self) -> str:
        return f"<BusChild {self.role} {self.id} pid={self.pid}>"

    async def run(self) -> ApplianceError:
        """Serve the child until the bus to it ends; returns why. The handler hears of it."""
        try:
            return await self._connection.run(self._take, self._require_hello)
        finally:
            self._over = True
            for answered in self._answers.values():
                answered.set()
            if self._greeted.is_set():
                self._handler.on_gone(self)

    def end(self, reason: str) -> None:
        """End the bus to this child."""
        self._connection.end(LinkBroken(reason))

    def push(self, message: ToChild) -> None:
        """Send a message. Of pictures only the latest is kept while the child is behind. Never blocks or raises."""
        if isinstance(message, Picture):
            self.push_picture(encode(message))
        else:
            self._connection.post(message)

    def push_picture(self, frame: bytes) -> None:
        """As `push`, for a picture that is encoded already, because it goes to several children."""
        self._picture = frame
        self._connection.outbox.wake()

    def relay(self, source: str, frame: bytes) -> None:
        """Pass on what another child reported. Of a child that is behind the oldest reports are lost, which is logged.

        Never blocks or raises.
        """
        if not self._relays.add(source, frame) and not self._told_of_loss:
            self._told_of_loss = True
            LOG.warning("%s %s is too slow: it misses reports of other front ends", self.role, self.id)
        self._connection.outbox.wake()

    def relay_gone(self, source: str, frame: bytes) -> None:
        """Say that another child is gone, instead of what it had reported and is not passed on yet."""
        self._relays.add_gone(source, frame)
        self._connection.outbox.wake()

    async def pull(self, what: str, deadline_s: float, about: str = "") -> Any:
        """What the child answers to `Pull(what)`; None when it has nothing. Raises `WorkerLost`, `WorkerTimeout`."""
        number = self._next_call()
        answered = self._answers[number] = trio.Event()
        try:
            if not self._over:
                self._connection.post(Pull(number, what, about))
                with trio.move_on_after(deadline_s):
                    await answered.wait()
            if number in self._pulled:
                return self._pulled[number]
        finally:
            del self._answers[number]
            self._pulled.pop(number, None)
        if self._over:
            raise WorkerLost(f"cannot get {what} from {self.role} {self.id}: it is gone")
        raise WorkerTimeout(f"cannot get {what} from {self.role} {self.id} within {deadline_s:g} s")

    def _take(self, frames: list[Buffer]) -> None:
        for frame in frames:
            message = self._decode(frame)
            if isinstance(message, ChildHello):
                self._greet(message)
            elif not self._greeted.is_set():
                raise LinkBroken("a child must say who it is first")
            elif isinstance(message, Pulled):
                answered = self._answers.get(message.call)
                if answered is not None:  # else it came after the deadline
                    self._pulled[message.call] = message.data
                    answered.set()
            else:
                self._handler.on_message(self, message)

    def _greet(self, hello: ChildHello) -> None:
        if self._greeted.is_set():
            raise LinkBroken("a child says who it is only once")
        self.role, self.id, self.pid = hello.role, hello.id, hello.pid
        self._greeted.set()
        self._handler.on_hello(self)

    async def _require_hello(self) -> None:
        with trio.move_on_after(self._limits.hello_s):
            await self._greeted.wait()
        if not self._greeted.is_set():
            raise LinkBroken(f"a child did not say who it is within {self._limits.hello_s:g} s")

    def _refill(self) -> None:
        """Send what was kept for a child that was behind, once it is not."""
        outbox = self._connection.outbox
        if self._picture is not None and not outbox.backlog_bytes:
            frame, self._picture = self._picture, None
            outbox.post(frame)
        if self._relays and not outbox.backlog_bytes:
            self._told_of_loss = False
            outbox.post(self._relays.take())
