"""Messages among equals over ZMQ: each publishes to all who listen, and listens to those it was told of."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import zmq

from appliance.events.zmq_sockets import TrioSocket, ZmqContext, attach, check_endpoint, opened

TOPIC = b"replica-sync"


class Broadcast:
    """Made by `broadcasting`; belongs to the trio thread."""

    def __init__(self, outgoing: TrioSocket, incoming: TrioSocket, endpoint: str) -> None:
        self.endpoint = endpoint
        """Where others listen to us."""
        self._outgoing, self._incoming = outgoing, incoming
        self._peers: dict[str, None] = {}

    def publish(self, payload: bytes) -> None:
        """Send to all who listen, without waiting; those who are slow or away miss it."""
        self._outgoing.send_nowait([TOPIC, payload])

    def listen_to(self, endpoint: str) -> None:
        """Listen to a peer; doing so twice changes nothing. Raises `InvalidRequest` and `EndpointUnusable`."""
        check_endpoint(endpoint)
        if endpoint not in self._peers:
            attach(self._incoming, endpoint, bind=False)
            self._peers[endpoint] = None

    def ignore(self, endpoint: str) -> bool:
        """No longer listen to a peer; False when it was none."""
        if endpoint not in self._peers:
            return False
        del self._peers[endpoint]
        self._incoming.raw.disconnect(endpoint)
        return True

    def peers(self) -> list[str]:
        """Those listened to."""
        return list(self._peers)

    async def receive(self, take: Callable[[bytes], None]) -> None:
        """Hand over what peers send, until cancelled."""
        while True:
            frames = await self._incoming.receive()
            if len(frames) == 2:
                take(frames[1])


@asynccontextmanager
async def broadcasting(
    context: ZmqContext, endpoint: str | None, take: Callable[[bytes], None]
) -> AsyncIterator[Broadcast]:
    """A member that publishes on `endpoint` (None: only listens), and takes what others send, until the block is left.

    Raises `InvalidRequest` and `EndpointUnusable`.
    """
    if endpoint:
        check_endpoint(endpoint, bind=True)
    with opened(context, zmq.PUB) as outgoing, opened(context, zmq.SUB, subscribe=TOPIC) as incoming:
        bound = attach(outgoing, endpoint, bind=True) if endpoint else ""
        async with trio.open_nursery() as nursery:
            member = Broadcast(outgoing, incoming, bound)
            nursery.start_soon(member.receive, take)
            yield member
            nursery.cancel_scope.cancel()
