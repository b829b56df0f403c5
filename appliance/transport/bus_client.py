"""The bus, child's side: reports to the supervisor, and hears from it."""

import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from appliance.core.errors import WorkerLost
from appliance.transport.connection import Connection
from appliance.transport.limits import LinkLimits
from appliance.transport.nurseries import open_inner_nursery
from appliance.wire.bus_messages import (
    ChildHello,
    FrontEndGone,
    Picture,
    PlacementReports,
    Pull,
    Pulled,
    Sleep,
    Stop,
    ToSupervisor,
    Wake,
)
from appliance.wire.framing import Buffer, encode, to_child_decoder
from appliance.wire.sockets import connect_unix
from appliance.wire.streams import ByteStream

LOG = logging.getLogger(__name__)
LAST_WORDS_S = 1.0  # for what was posted last to leave when the block of `connect_bus` ends

Answer = Callable[[], Any]
"""Gives plain data for a `Pull`; None when there is none. Must not block."""
Hear = Callable[[PlacementReports | FrontEndGone], None]
"""Takes what other front ends report. Must not block; raising ends the bus."""


class BusClient:
    """One child's connection to its supervisor.

    `async for message in bus` gives `Stop`s, `Sleep`s, `Wake`s and `Picture`s and ends when the supervisor is gone.
    Of pictures that were not taken yet only the latest is kept. Use it from one task, on the trio thread.
    """

    def __init__(self, stream: ByteStream, limits: LinkLimits | None = None) -> None:
        self.gone = trio.Event()
        """Set once the supervisor is gone: front ends and workers then end."""
        self._connection = Connection(stream, limits or LinkLimits())
        self._decode = to_child_decoder().decode
        self._answers: dict[str, Answer] = {}
        self._answers_about: dict[str, Callable[[str], Any]] = {}
        self._works: dict[str, tuple[trio.Nursery, Callable[[str], Awaitable[Any]]]] = {}
        self._hear: Hear | None = None
        self._picture: Picture | None = None
        self._stop: Stop | None = None
        self._orders: deque[Sleep | Wake] = deque()
        self._arrived = trio.Event()

    def answer(self, what: str, source: Answer) -> None:
        """Answer `Pull(what)` with what `source()` gives. Without a source the answer is None."""
        self._answers[what] = source

    def answer_about(self, what: str, source: Callable[[str], Any]) -> None:
        """Answer `Pull(what, about)` with what `source(about)` gives."""
        self._answers_about[what] = source

    def answer_later(self, what: str, nursery: trio.Nursery, work: Callable[[str], Awaitable[Any]]) -> None:
        """Answer `Pull(what, about)` with what `work(about)` returns, in a task of `nursery`; None if it raises."""
        self._works[what] = nursery, work

    def hear_others(self, hear: Hear) -> None:
        """Have `hear` take what other front ends report; without it that is dropped."""
        self._hear = hear

    @property
    def backlog_bytes(self) -> int:
        """What the supervisor has not taken yet."""
        return self._connection.outbox.backlog_bytes

    def post(self, message: ToSupervisor) -> None:
        """Send without waiting. After the supervisor is gone messages are dropped."""
        self._connection.post(message)

    async def send(self, message: ToSupervisor) -> None:
        """Send, and return when the message was handed to the kernel. Raises `WorkerLost` without a supervisor."""
        self._connection.post(message)
        await self.flush()
        if self.gone.is_set():
            raise WorkerLost("cannot report: the supervisor is gone")

    async def flush(self) -> None:
        """Return when all that was posted was handed to the kernel, or the supervisor is gone."""
        await self._connection.outbox.sent()

    async def run(self) -> None:
        """Keep the bus until it ends. Cancelling closes it."""
        try:
            await self._connection.run(self._take)
        finally:
            self.gone.set()
            self._arrived.set()

    def __aiter__(self) -> "BusClient":
        return self

    async def __anext__(self) -> Picture | Stop | Sleep | Wake:
        while True:
            if self._stop is not None:
                stop, self._stop = self._stop, None
                return stop
            if self._orders:
                return self._orders.popleft()
            if self._picture is not None:
                picture, self._picture = self._picture, None
                return picture
            if self.gone.is_set():
                raise StopAsyncIteration
            self._arrived = trio.Event()
            await self._arrived.wait()  # no deadline: the supervisor speaks when something changes

    def _take(self, frames: list[Buffer]) -> None:
        for frame in frames:
            match self._decode(frame):
                case Pull() as pull:
                    self._answer(pull)
                case Picture() as picture:
                    self._picture = picture
                    self._arrived.set()
                case Stop() as stop:
                    self._stop = stop
                    self._arrived.set()
                case Sleep() | Wake() as order:
                    self._orders.append(order)
                    self._arrived.set()
                case PlacementReports() | FrontEndGone() as report if self._hear is not None:
                    self._hear(report)

    def _answer(self, pull: Pull) -> None:
        if pull.what in self._works:
            nursery, work = self._works[pull.what]
            nursery.start_soon(self._work, pull, work)
            return
        about = self._answers_about.get(pull.what)
        source = self._answers.get(pull.what, _nothing) if about is None else partial(about, pull.about)
        try:
            frame = encode(Pulled(pull.call, source()))
        except Exception:
            LOG.exception("cannot answer the supervisor")
            frame = encode(Pulled(pull.call, None))
        self._connection.outbox.post(frame)

    async def _work(self, pull: Pull, work: Callable[[str], Awaitable[Any]]) -> None:
        try:
            frame = encode(Pulled(pull.call, await work(pull.about)))
        except Exception as error:  # an engine that is lost must not end its worker from here: its own watch does
            LOG.warning("cannot answer the supervisor about %s: %s", pull.what, error)
            frame = encode(Pulled(pull.call, None))
        self._connection.outbox.post(frame)


def _nothing() -> None:
    """Answers what nobody registered for."""


@asynccontextmanager
async def connect_bus(path: Path, hello: ChildHello, limits: LinkLimits | None = None) -> AsyncIterator[BusClient]:
    """Connect to the supervisor and say hello (with our own pid when it names none).

    Raises `NotRunning` when no supervisor listens there. Leaving the block closes the bus, after what was posted
    has been handed to the kernel. Exceptions of the block pass as they are.
    """
    limits = limits or LinkLimits()
    bus = BusClient(await connect_unix(path, deadline_s=limits.hello_s), limits)
    async with open_inner_nursery() as nursery:
        nursery.start_soon(bus.run)
        bus.post(hello if hello.pid else ChildHello(hello.role, hello.id, os.getpid()))
        yield bus
        with trio.move_on_after(LAST_WORDS_S):
            await bus.flush()
        nursery.cancel_scope.cancel()
