"""Follows one engine's KV events over ZMQ: in order, without gaps where a replay can close them, across restarts.

`DESIGN.md` has the rules.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio
import zmq

from appliance.core.kv_events import KvEvent
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_frames import BadFrames, Numbered, read_publication
from appliance.events.zmq_replay import QUIET_S, ReplayFailed, replay
from appliance.events.zmq_sequence import SequenceCursor, Verdict
from appliance.events.zmq_sockets import (
    TrioSocket,
    ZmqContext,
    attach,
    check_endpoint,
    connections_of,
    is_connected,
    opened,
)
from appliance.events.zmq_wire import BadBatch, Batch, Dialect, Issue, decode_batch

log = logging.getLogger(__name__)


class EventFeed(Protocol):
    """What a subscriber feeds. Called on the trio thread; must not raise for events that it cannot use."""

    def take(self, events: list[KvEvent]) -> None:
        """These happened, in this order."""

    def forget(self) -> None:
        """What was taken so far no longer holds: the engine restarted, or too much was missed."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One publisher: one rank of one engine."""

    endpoint: str
    replay_endpoint: str | None = None
    topic: str = ""
    """Beginning of the topics to follow; empty takes all."""
    bind: bool = False
    """The publisher connects to us instead of listening."""
    dialect: Dialect = Dialect.VLLM

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for endpoints that are none."""
        check_endpoint(self.endpoint, bind=self.bind)
        if self.replay_endpoint:
            check_endpoint(self.replay_endpoint)


@dataclass
class FeedCounts:
    """What became of the messages of one publisher, since the start."""

    batches: int = 0
    """Applied, replayed ones included."""
    events: int = 0
    replayed: int = 0
    stale: int = 0
    lost: int = 0
    """Batches that nobody could bring back."""
    restarts: int = 0
    bad: int = 0
    """Messages that are no batch."""
    issues: Counter[Issue] = field(default_factory=Counter)


class ZmqSubscriber:
    """One publisher's events, from its first one on as far as it still has them. May be run again after a pause."""

    def __init__(
        self,
        context: ZmqContext,
        source: Source,
        converter: EventConverter,
        feed: EventFeed,
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.source = source
        self.counts = FeedCounts()
        self.connected = False
        """The publisher answers."""
        self._context = context
        self._convert = converter.convert
        self._feed = feed
        self._quiet_s = quiet_s
        self._cursor = SequenceCursor()
        self._turn = trio.Lock()
        """One batch or one replay at a time."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled; a publisher that is away is waited for. Raises `EndpointUnusable`."""
        topic = self.source.topic.encode()
        with opened(self._context, zmq.SUB, subscribe=topic) as socket, connections_of(socket) as connections:
            attach(socket, self.source.endpoint, bind=self.source.bind)
            task_status.started()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, connections)
                    await self._follow(socket)
            finally:
                self.connected = False

    async def _follow(self, socket: TrioSocket) -> None:
        while True:
            frames = await socket.receive()
            try:
                arrived = read_publication(frames)
            except BadFrames:
                self.counts.bad += 1
                continue
            async with self._turn:
                await self._on_live(arrived)

    async def _watch(self, connections: TrioSocket) -> None:
        while True:
            self.connected = is_connected(await connections.receive())
            if self.connected and self.source.replay_endpoint:
                async with self._turn:
                    await self._rejoin()

    async def _on_live(self, arrived: Numbered) -> None:
        sequence = arrived.sequence
        batch = self._decode(arrived.payload)
        verdict = self._cursor.judge(sequence, batch.timestamp)
        if verdict is Verdict.STALE:
            self.counts.stale += 1
            return
        if verdict is Verdict.RESTARTED:
            self._begin_anew()
        if sequence > self._cursor.expected:
            await self._close_gap(sequence)
        if sequence >= self._cursor.expected:
            self._apply(sequence, batch)

    async def _close_gap(self, sequence: int) -> None:
        """Have the batches before a live one applied, as far as they can be had."""
        if self.source.replay_endpoint:
            await self._replay(self._cursor.expected)
        missing = sequence - self._cursor.expected
        if missing > 0 and not self._cursor.fresh:
            self.counts.lost += missing
            log.warning("KV events are lost endpoint=%s batches=%s", self.source.endpoint, missing)

    async def _rejoin(self) -> None:
        """The publisher is there, perhaps again: find out whether it still counts on, and fetch what was missed."""
        if not self._cursor.fresh and not await self._is_same():
            self._begin_anew()
        await self._replay(self._cursor.expected)

    async def _is_same(self) -> bool:
        """Whether the publisher has the batch applied last, or is silent about it."""
        last, found = self._cursor.expected - 1, list[Numbered]()

        def take_one(entry: Numbered) -> bool:
            found.append(entry)
            return False

        try:
            await self._ask(last, take_one)
        except ReplayFailed:
            return True
        if not found:
            return False  # it has sent fewer than it once had
        return found[0].sequence > last or self._decode(found[0].payload).timestamp == self._cursor.timestamp

    async def _replay(self, start: int) -> None:
        def take(entry: Numbered) -> bool:
            if entry.sequence >= self._cursor.expected:
                self._take_replayed(entry)
            return True

        try:
            await self._ask(start, take)
        except ReplayFailed as error:
            log.warning("KV events cannot be replayed: %s", error.message)

    def _take_replayed(self, entry: Numbered) -> None:
        missing = entry.sequence - self._cursor.expected
        if missing and not self._cursor.fresh:
            # What was removed meanwhile is not known, so nothing of what is known can be trusted.
            self.counts.lost += missing
            self._feed.forget()
            log.warning("KV events are lost; starting from what is left endpoint=%s", self.source.endpoint)
        self.counts.replayed += 1
        self._apply(entry.sequence, self._decode(entry.payload))

    async def _ask(self, start: int, take: Callable[[Numbered], bool]) -> None:
        assert self.source.replay_endpoint
        await replay(self._context, self.source.replay_endpoint, start, take, self._quiet_s)

    def _begin_anew(self) -> None:
        self.counts.restarts += 1
        self._cursor.reset()
        self._feed.forget()
        log.info("KV event publisher restarted endpoint=%s", self.source.endpoint)

    def _decode(self, payload: bytes) -> Batch:
        """A payload that is no batch counts as an empty one, so that the next one is still the next."""
        try:
            return decode_batch(payload, self.source.dialect)
        except BadBatch:
            self.counts.bad += 1
            return Batch(self._cursor.timestamp, [])

    def _apply(self, sequence: int, batch: Batch) -> None:
        events, issues = self._convert(batch)
        self._cursor.advance(sequence, batch.timestamp)
        self.counts.batches += 1
        self.counts.events += len(events)
        self.counts.issues += issues
        if events:
            self._feed.take(events)
