"""Cache events from a worker to front ends over real links: late joiners, lost batches, killed and deaf peers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks
from appliance.events.index_feed import FeedLimits, IndexFeed
from appliance.events.local_indexer import LocalIndexer
from appliance.events.rank_cursor import Phase
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import new_index
from appliance.transport.limits import LinkLimits
from appliance.transport.links import Links
from appliance.wire.sockets import connect_unix
from tests.fakes.stream_sinks import RecordingSink
from tests.helpers.faulty_stream import FaultyStream
from tests.helpers.link_rig import WORKER, LinkRig, make_request, open_link_rig
from tests.helpers.waiting import until


class FrontEnd:
    """One front end's links, cursors and index. Its nursery must not outlive the rig's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.index = new_index()
        self.warned: list[str] = []
        self.lost: list[str] = []
        self.lose_batches = 0
        """So many of the next batches vanish."""
        self.links = Links(nursery, on_lost=self.on_lost, on_kv_events=self.on_kv_events)
        self.feed = IndexFeed(nursery, self.links, self, self.warned.append, FeedLimits(first_pause_s=0.01))

    async def join(self, rig: LinkRig) -> FaultyStream:
        stream = FaultyStream(await connect_unix(rig.path, deadline_s=1))
        await self.links.attach(WORKER, stream)
        self.feed.add(WORKER, range(1))
        return stream

    def apply_kv_events(self, worker: WorkerId, rank: int, events: Sequence[KvEvent]) -> None:
        for event in events:
            self.index.apply(Holder(worker, rank), event)

    def clear_worker(self, worker: WorkerId, rank: int | None = None) -> None:
        self.index.clear(worker, rank)

    def on_kv_events(self, worker: WorkerId, rank: int, first_id: int, events: list[KvEvent]) -> None:
        if self.lose_batches:
            self.lose_batches -= 1
        else:
            self.feed.on_kv_events(worker, rank, first_id, events)

    def on_lost(self, worker: WorkerId, reason: str) -> None:
        self.lost.append(reason)
        self.feed.remove(worker)

    def is_live(self) -> bool:
        return self.feed.phases() == {(WORKER, 0): Phase.LIVE}


class Cache:
    """A worker's record, fed with prompts of at most a hundred blocks; ids count up."""

    def __init__(self) -> None:
        self.record = LocalIndexer(range(1))
        self.stored = 0

    def store(self, blocks: int) -> None:
        end = self.stored + blocks
        while self.stored < end:
            prompt = [2**63 + block for block in range(self.stored, min(self.stored + 100, end))]
            self.record.take(0, [StoredBlocks(prompt, prompt)])
            self.stored += len(prompt)


@asynccontextmanager
async def open_plane(folder: Path, limits: LinkLimits | None = None) -> AsyncIterator[tuple[LinkRig, Cache]]:
    cache = Cache()
    async with open_link_rig("unix", folder, kv_log=cache.record, limits=limits) as rig:
        rig.nursery.start_soon(cache.record.run, rig.server.publish_kv_events)
        yield rig, cache


async def test_a_front_end_that_joins_late_gets_everything_and_what_comes_after(tmp_path: Path) -> None:
    async with open_plane(tmp_path) as (rig, cache):
        cache.store(10_000)
        early, late = FrontEnd(rig.nursery), FrontEnd(rig.nursery)
        for front_end in (early, late):
            await front_end.join(rig)
            cache.store(10)
            await until(lambda one=front_end: len(one.index) == cache.stored and one.is_live())  # type: ignore[misc]
        cache.record.take(0, [RemovedBlocks([2**63 + 3, 2**63 + 4])])
        await until(lambda: len(early.index) == len(late.index) == cache.stored - 2)
        cache.record.take(0, [ClearedBlocks(), StoredBlocks([5], [5])])
        await until(lambda: len(early.index) == len(late.index) == 1)


async def test_a_lost_batch_is_asked_for(tmp_path: Path) -> None:
    async with open_plane(tmp_path) as (rig, cache):
        front_end = FrontEnd(rig.nursery)
        await front_end.join(rig)
        await until(front_end.is_live)
        front_end.lose_batches = 1
        cache.store(5)
        await until(lambda: not front_end.lose_batches)
        assert len(front_end.index) == 0
        cache.store(1)
        await until(lambda: len(front_end.index) == 6)
        assert front_end.warned == ["gap"]


@pytest.mark.parametrize("received", [3000, 100_000, 200_000])
async def test_a_worker_killed_in_the_middle_of_its_answer_leaves_nothing(tmp_path: Path, received: int) -> None:
    async with open_plane(tmp_path) as (rig, cache):
        cache.store(20_000)
        front_end = FrontEnd(rig.nursery)
        stream = await front_end.join(rig)
        stream.change(truncate_after=received)
        await until(lambda: front_end.lost)
        assert len(front_end.index) == 0
        assert front_end.feed.phases() == {}
        await front_end.join(rig)
        await until(lambda: len(front_end.index) == 20_000)


async def test_a_deaf_front_end_is_cut_off_and_holds_nobody_up(tmp_path: Path) -> None:
    limits = LinkLimits(stall_s=0.2)
    async with open_plane(tmp_path, limits) as (rig, cache):
        deaf, well = FrontEnd(rig.nursery), FrontEnd(rig.nursery)
        stream = await deaf.join(rig)
        await well.join(rig)
        await until(lambda: deaf.is_live() and well.is_live())
        stream.change(hold_reads=True)
        for _ in range(30):  # more than its socket takes
            cache.store(1000)
            await trio.lowlevel.checkpoint()
        await until(lambda: len(well.index) == cache.stored, 5)
        await until(lambda: rig.server.links == 1)


async def test_streams_go_on_beside_a_long_answer(tmp_path: Path) -> None:
    async with open_plane(tmp_path) as (rig, cache):
        cache.store(20_000)
        front_end = FrontEnd(rig.nursery)
        await front_end.join(rig)
        sink = RecordingSink()
        with trio.fail_after(2), front_end.links.open(WORKER, make_request(20), sink):
            await sink.ended.wait()
        assert sink.finish == "length"
        await until(lambda: len(front_end.index) == 20_000)
