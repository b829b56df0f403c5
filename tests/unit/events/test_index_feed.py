"""Following workers in virtual time: retries, bounds, workers that go, counters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import trio
import trio.testing

from appliance.core.errors import WorkerTimeout
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, KvReply, RemovedBlocks, StoredBlocks
from appliance.events.index_feed import FeedLimits, IndexFeed
from appliance.events.local_indexer import LocalIndexer
from appliance.events.rank_cursor import Phase
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import PrefixIndex, new_index

W = WorkerId("w")
ONE, TWO = StoredBlocks([1], [11]), StoredBlocks([2], [12], 1)


@dataclass
class IndexView:
    """A `CacheView` that is a prefix index."""

    index: PrefixIndex = field(default_factory=new_index)

    def apply_kv_events(self, worker: WorkerId, rank: int, events: Sequence[KvEvent]) -> None:
        for event in events:
            self.index.apply(Holder(worker, rank), event)

    def clear_worker(self, worker: WorkerId, rank: int | None = None) -> None:
        self.index.clear(worker, rank)


class Workers:
    """Workers whose answers take a second, and fail as often as told."""

    def __init__(self) -> None:
        self.logs: dict[WorkerId, LocalIndexer] = {}
        self.failures = 0
        self.asked_at: list[float] = []
        self.asking = self.most = 0

    def add(self, worker: WorkerId = W) -> LocalIndexer:
        self.logs[worker] = LocalIndexer(range(2))
        return self.logs[worker]

    async def ask_kv_events(
        self, worker: WorkerId, rank: int, start_id: int | None, take: Callable[[KvReply], None]
    ) -> None:
        self.asked_at.append(trio.current_time())
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            await trio.sleep(1)
            if self.failures:
                self.failures -= 1
                raise WorkerTimeout("no answer")
            for reply in self.logs[worker].answer(rank, start_id):
                await trio.lowlevel.checkpoint()
                take(reply)
        finally:
            self.asking -= 1


@dataclass
class Rig:
    nursery: trio.Nursery
    workers: Workers = field(default_factory=Workers)
    view: IndexView = field(default_factory=IndexView)
    warned: list[str] = field(default_factory=list)

    def feed(self) -> IndexFeed:
        return IndexFeed(self.nursery, self.workers, self.view, self.warned.append, FeedLimits())

    def counts(self) -> dict[Holder, tuple[int, ...]]:
        return self.view.index.block_counts()


async def test_a_worker_that_joins_late_is_restored_and_followed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    rig.workers.add().take(1, [ONE])
    feed = rig.feed()
    feed.add(W, range(2))
    await trio.sleep(1.5)
    assert rig.counts() == {Holder(W, 1): (1, 0, 0)}
    feed.on_kv_events(W, 1, 2, [TWO, RemovedBlocks([5])])
    assert rig.counts() == {Holder(W, 1): (2, 0, 0)}


async def test_a_gap_is_filled(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    log = rig.workers.add()
    feed = rig.feed()
    feed.add(W, range(1))
    await trio.sleep(1.5)
    log.take(0, [ONE, TWO])
    feed.on_kv_events(W, 0, 2, [TWO])
    assert feed.phases() == {(W, 0): Phase.BEHIND}
    await trio.sleep(1.5)
    assert feed.phases() == {(W, 0): Phase.LIVE}
    assert rig.counts() == {Holder(W): (2, 0, 0)}
    assert rig.warned == ["gap"]


async def test_pauses_double_and_end_after_eight_retries(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    log = rig.workers.add()
    rig.workers.failures = 9
    feed = rig.feed()
    feed.add(W, range(1))
    await trio.sleep(120)
    times = rig.workers.asked_at
    assert [round(b - a - 1, 3) for a, b in pairwise(times)] == [
        0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6
    ]  # fmt: skip
    assert feed.phases() == {(W, 0): Phase.GIVEN_UP}
    assert rig.warned == ["gave_up"]
    log.take(0, [ONE])
    feed.on_kv_events(W, 0, 1, [ONE])
    await trio.sleep(2)
    assert rig.counts() == {Holder(W): (1, 0, 0)}


async def test_sixteen_are_asked_at_once(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    feed = rig.feed()
    for number in range(40):
        rig.workers.add(WorkerId(f"w{number}"))
        feed.add(WorkerId(f"w{number}"), range(1))
    await trio.sleep(3.5)
    assert rig.workers.most == 16
    assert set(feed.phases().values()) == {Phase.LIVE}


async def test_a_worker_that_goes_leaves_nothing(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    rig.workers.add().take(0, [ONE])
    feed = rig.feed()
    feed.add(W, range(1))
    await trio.sleep(1.5)
    feed.add(W, range(1))  # begins anew
    await trio.sleep(0.5)
    feed.remove(W)
    feed.remove(W)
    await trio.sleep(5)
    assert rig.counts() == {}
    assert rig.workers.asking == 0
    feed.on_kv_events(W, 0, 2, [TWO])
    assert rig.counts() == {}
    assert rig.warned == []


async def test_events_of_a_rank_that_the_worker_does_not_have_are_counted(nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    rig.workers.add()
    feed = rig.feed()
    feed.add(W, range(1))
    feed.on_kv_events(W, 7, 1, [ONE])
    assert (rig.warned, rig.counts()) == (["unknown_rank"], {})


async def test_nobody_is_asked_while_no_index_is_wanted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    rig.workers.add().take(0, [ONE])
    feed = rig.feed()
    feed.set_wanted(False)
    feed.add(W, range(1))
    feed.on_kv_events(W, 0, 1, [ONE])
    await trio.sleep(5)
    assert (rig.workers.asked_at, rig.warned, rig.counts()) == ([], [], {})
    feed.set_wanted(True)
    await trio.sleep(1.5)
    assert rig.counts() == {Holder(W): (1, 0, 0)}
    feed.set_wanted(False)
    assert rig.counts() == {}
