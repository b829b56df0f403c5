"""Follows an engine's publisher for the engine's adapter, which knows no ZMQ: a `FollowKvEvents`."""

from dataclasses import dataclass

import zmq

from appliance.core.kv_events import ClearedBlocks, KvEvent, TakeKvEvents
from appliance.core.kv_publishers import KvPublisher
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_subscriber import Source, ZmqSubscriber
from appliance.events.zmq_wire import Dialect


class Follower:
    """Call it once per publisher; see `FollowKvEvents`. All sockets share the process's context."""

    async def __call__(self, publisher: KvPublisher, take: TakeKvEvents) -> None:
        source = Source(
            endpoint=publisher.endpoint,
            replay_endpoint=publisher.replay_endpoint,
            topic=publisher.topic,
            bind=not publisher.binds,
            dialect=Dialect(publisher.dialect),
        )
        feed = _RankFeed(publisher.rank, take)
        await ZmqSubscriber(zmq.Context.instance(), source, EventConverter(publisher.block_size), feed).run()


@dataclass(frozen=True)
class _RankFeed:
    rank: int
    hand_on: TakeKvEvents

    def take(self, events: list[KvEvent]) -> None:
        self.hand_on(self.rank, events)

    def forget(self) -> None:
        self.hand_on(self.rank, [ClearedBlocks()])
