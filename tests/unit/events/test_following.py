"""One rank's publisher speaks for that rank only."""

from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.events.following import RankFeed
from appliance.events.local_indexer import LocalIndexer


def test_the_restart_of_one_rank_leaves_the_blocks_of_the_others() -> None:
    record = LocalIndexer(range(2))
    first, second = RankFeed(0, record.take), RankFeed(1, record.take)
    first.take([StoredBlocks([1, 2], [11, 12]), StoredBlocks([3], [13], 2, Tier.DISK)])
    second.take([StoredBlocks([1, 2], [11, 12])])
    first.forget()
    assert record.blocks() == 2
    assert [reply.events for reply in record.answer(0, None)] == [[]]
    first.take([StoredBlocks([1], [11])])
    assert record.blocks() == 3


def test_a_rank_that_clears_its_cache_clears_only_its_own() -> None:
    record = LocalIndexer(range(2))
    first, second = RankFeed(0, record.take), RankFeed(1, record.take)
    first.take([StoredBlocks([1, 2], [11, 12])])
    second.take([StoredBlocks([5], [15])])
    first.take([ClearedBlocks(), StoredBlocks([9], [19])])
    assert record.blocks() == 2
    assert record.unfounded == 0


def test_only_what_is_still_held_is_taken_back() -> None:
    told: list[tuple[int, list[KvEvent]]] = []
    feed = RankFeed(3, lambda rank, events: told.append((rank, events)))
    feed.take([StoredBlocks([1, 2, 3], [11, 12, 13]), RemovedBlocks([3]), RemovedBlocks([7], Tier.DISK)])
    feed.forget()
    assert told[-1] == (3, [RemovedBlocks([1, 2])])
    feed.forget()
    assert len(told) == 2
