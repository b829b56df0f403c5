"""Publishes an engine's KV events over ZMQ as vLLM does, for routers that are not ours, with replays."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio
import zmq

from appliance.events.zmq_frames import BadFrames, Numbered, read_request, write_publication, write_reply
from appliance.events.zmq_sockets import MESSAGES_PER_TURN, TrioSocket, ZmqContext, attach, check_endpoint, opened
from appliance.events.zmq_wire import Dialect, WireEvent, WireForm, encode_batch

BUFFER_BATCHES = 10_000
STALLED_S = 5.0


class ZmqPublisher:
    """One rank's publisher. Made by `publishing`; all methods belong to the trio thread."""

    def __init__(
        self,
        live: TrioSocket,
        *,
        topic: str,
        rank: int,
        buffer_batches: int,
        form: WireForm,
        dialect: Dialect,
        clock: Callable[[], float],
    ) -> None:
        self._live = live
        self._topic = topic.encode()
        self._rank = rank
        self._form = form
        self._dialect = dialect
        self._clock = clock
        self._buffer: deque[Numbered] = deque(maxlen=buffer_batches)
        self.endpoint = ""
        """Where to subscribe; with the port that the system chose."""
        self.replay_endpoint: str | None = None
        self.next_sequence = 0
        self.bad_requests = 0

    def publish(self, events: Sequence[WireEvent]) -> int:
        """Send one batch to all subscribers, without waiting for slow ones; its sequence number."""
        return self.publish_payload(encode_batch(self._clock(), events, self._rank, self._form, self._dialect))

    def publish_payload(self, payload: bytes) -> int:
        """The same with an encoded batch."""
        entry = Numbered(self.next_sequence, payload)
        self.next_sequence += 1
        self._buffer.append(entry)
        self._live.send_nowait(write_publication(self._topic, *entry))
        return entry.sequence

    async def answer_replays(self, requests: TrioSocket) -> None:
        """Serve what this publisher still has until cancelled."""
        while True:
            frames = await requests.receive()
            try:
                route, start = read_request(frames)
            except BadFrames:
                self.bad_requests += 1
                continue
            await self._answer(requests, route, start)

    async def _answer(self, socket: TrioSocket, route: list[bytes], start: int) -> None:
        # A copy: batches that are published meanwhile are for those who subscribe.
        wanted = [entry for entry in self._buffer if entry.sequence >= start]
        for number, entry in enumerate((*wanted, None), 1):
            if not await _send(socket, write_reply(route, self._topic, entry)):
                return
            if number % MESSAGES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()


async def _send(socket: TrioSocket, frames: list[bytes]) -> bool:
    """Send to a peer that may be slow; False when it has gone or takes nothing for too long."""
    deadline = trio.current_time() + STALLED_S
    while True:
        try:
            if socket.send_nowait(frames):
                return True
        except zmq.ZMQError:
            return False  # the peer is not there any more
        if trio.current_time() > deadline:
            return False
        await trio.sleep(0.01)  # ZMQ does not tell when one peer of many has room again


@asynccontextmanager
async def publishing(
    context: ZmqContext,
    endpoint: str,
    replay_endpoint: str | None = None,
    *,
    bind: bool = True,
    topic: str = "",
    rank: int = 0,
    buffer_batches: int = BUFFER_BATCHES,
    form: WireForm = WireForm.MAP,
    dialect: Dialect = Dialect.VLLM,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[ZmqPublisher]:
    """A publisher on these endpoints, which are free again afterwards.

    Raises `InvalidRequest` for endpoints that are none and `EndpointUnusable` for ones that are taken. With `bind` off
    the consumer listens on `endpoint`. Batches beyond `buffer_batches` cannot be replayed.
    """
    check_endpoint(endpoint, bind=bind)
    if replay_endpoint:
        check_endpoint(replay_endpoint, bind=True)
    with opened(context, zmq.PUB) as live, opened(context, zmq.ROUTER, router_mandatory=1) as requests:
        publisher = ZmqPublisher(
            live,
            topic=topic,
            rank=rank,
            buffer_batches=buffer_batches,
            form=form,
            dialect=dialect,
            clock=clock,
        )
        publisher.endpoint = attach(live, endpoint, bind=bind)
        if replay_endpoint:
            publisher.replay_endpoint = attach(requests, replay_endpoint, bind=True)
        async with trio.open_nursery() as nursery:
            if replay_endpoint:
                nursery.start_soon(publisher.answer_replays, requests)
            yield publisher
            nursery.cancel_scope.cancel()
