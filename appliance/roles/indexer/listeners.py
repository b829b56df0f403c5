"""Subscriptions in their life: each follows one rank's publisher until it is closed, with pauses."""

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from enum import StrEnum

import trio

from appliance.core.kv_events import KvEvent
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_sockets import EndpointUnusable, ZmqContext, zmq_context
from appliance.events.zmq_subscriber import EventFeed, FeedCounts, Source, ZmqSubscriber

log = logging.getLogger(__name__)


class ListenerStatus(StrEnum):
    """How a subscription is doing; the names are part of the HTTP interface."""

    PENDING = "pending"
    """The publisher has not answered, or has gone."""
    ACTIVE = "active"
    PAUSED = "paused"
    FAILED = "failed"
    """The system will not connect to this endpoint."""


class Gate:
    """A feed that can be shut: nothing gets through any more, whatever is still under way."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed: EventFeed | None = feed

    def shut(self) -> None:
        """For good."""
        self._feed = None

    def take(self, events: list[KvEvent]) -> None:
        """Pass on."""
        if self._feed is not None:
            self._feed.take(events)

    def forget(self) -> None:
        """Pass on."""
        if self._feed is not None:
            self._feed.forget()


class Listener:
    """One subscription. `run` it in a nursery; pausing keeps its place, so that a replay can make up for the pause."""

    def __init__(self, subscriber: ZmqSubscriber, gate: Gate) -> None:
        self.source = subscriber.source
        self.counts = subscriber.counts
        self._subscriber, self._gate = subscriber, gate
        self._listening = trio.CancelScope()
        self._resumed = trio.Event()
        self._resumed.set()
        self._failed = False
        self._closed = False

    @property
    def status(self) -> ListenerStatus:
        """At this moment."""
        if self._failed:
            return ListenerStatus.FAILED
        if not self._resumed.is_set():
            return ListenerStatus.PAUSED
        return ListenerStatus.ACTIVE if self._subscriber.connected else ListenerStatus.PENDING

    async def run(self) -> None:
        """Follow until closed."""
        while not self._closed:
            await self._resumed.wait()  # no deadline: the user decides how long a pause is
            try:
                with self._listening:
                    await self._subscriber.run()
            except EndpointUnusable as error:
                self._failed = True
                log.error("%s", error.message)
                return
            self._listening = trio.CancelScope()

    def pause(self) -> None:
        """Stop listening; what is published meanwhile is missed. Once paused, more pauses change nothing."""
        if self._resumed.is_set():
            self._resumed = trio.Event()
            self._listening.cancel()

    def resume(self) -> None:
        """Listen again."""
        self._resumed.set()

    def close(self) -> None:
        """End for good; nothing is fed any more."""
        self._closed = True
        self._gate.shut()
        self._resumed.set()
        self._listening.cancel()


class Listeners:
    """All subscriptions of a process."""

    def __init__(self, nursery: trio.Nursery, context: ZmqContext) -> None:
        self.context = context
        self._nursery = nursery
        self._open: set[Listener] = set()
        self._retired = FeedCounts()

    def start(self, source: Source, block_size: int, feed: EventFeed) -> Listener:
        """Begin to follow a publisher; returns at once."""
        gate = Gate(feed)
        listener = Listener(ZmqSubscriber(self.context, source, EventConverter(block_size), gate), gate)
        self._open.add(listener)
        self._nursery.start_soon(listener.run)
        return listener

    def close(self, listener: Listener) -> None:
        """End one."""
        self._open.discard(listener)
        _add(self._retired, listener.counts)
        listener.close()

    def statuses(self) -> Counter[ListenerStatus]:
        """How many are in each status."""
        return Counter(listener.status for listener in self._open)

    def totals(self) -> FeedCounts:
        """What became of all messages since the start, those of closed subscriptions included."""
        total = FeedCounts()
        for counts in (self._retired, *(listener.counts for listener in self._open)):
            _add(total, counts)
        return total


@asynccontextmanager
async def listening() -> AsyncIterator[Listeners]:
    """Subscriptions that end with the block."""
    with zmq_context() as context:
        async with trio.open_nursery() as nursery:
            yield Listeners(nursery, context)
            nursery.cancel_scope.cancel()


def _add(total: FeedCounts, more: FeedCounts) -> None:
    for one in fields(FeedCounts):
        setattr(total, one.name, getattr(total, one.name) + getattr(more, one.name))
