"""Follows an engine's publisher for the engine's adapter, which knows no ZMQ: a `FollowKvEvents`."""

import zmq

from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, TakeKvEvents, Tier
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
        feed = RankFeed(publisher.rank, take)
        await ZmqSubscriber(zmq.Context.instance(), source, EventConverter(publisher.block_size), feed).run()


class RankFeed:
    """An `EventFeed` that hands on what one rank says, as news of that rank alone.

    A publisher speaks for its own rank, while `ClearedBlocks` is about all ranks of a worker: handed on as it is, the
    restart of one rank would take the blocks of the others away. So it becomes the removal of what this rank holds.
    """

    def __init__(self, rank: int, hand_on: TakeKvEvents) -> None:
        self._rank, self._hand_on = rank, hand_on
        self._held: dict[Tier, set[int]] = {}

    def take(self, events: list[KvEvent]) -> None:
        """See `EventFeed.take`."""
        told: list[KvEvent] = []
        for event in events:
            match event:
                case ClearedBlocks():
                    told += self._removal()
                    continue
                case StoredBlocks(block_ids, tier=tier):
                    self._held.setdefault(tier, set()).update(block_ids)
                case RemovedBlocks(block_ids, tier):
                    self._held.get(tier, set()).difference_update(block_ids)
            told.append(event)
        if told:
            self._hand_on(self._rank, told)

    def forget(self) -> None:
        """See `EventFeed.forget`."""
        if removal := self._removal():
            self._hand_on(self._rank, removal)

    def _removal(self) -> list[KvEvent]:
        held, self._held = self._held, {}
        return [RemovedBlocks(sorted(ids), tier) for tier, ids in sorted(held.items()) if ids]
