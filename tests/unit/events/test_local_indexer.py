"""What a worker puts on record, sends and answers."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
import trio.testing

from appliance.core.errors import NotFound
from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply, RemovedBlocks, ReplyForm, StoredBlocks
from appliance.events.local_indexer import LocalIndexer
from appliance.events.rank_record import PIECE_BLOCKS

Sent = list[tuple[int, int, list[KvEvent]]]
ONE, TWO = StoredBlocks([1], [11]), StoredBlocks([2], [12], 1)


def make(ranks: int = 1, **bounds: int) -> LocalIndexer:
    return LocalIndexer(range(ranks), **bounds)


def flushed(indexer: LocalIndexer) -> Sent:
    sent: Sent = []
    indexer.flush(lambda *batch: sent.append(batch))
    return sent


def events_of(replies: Sequence[KvReply]) -> list[KvEvent]:
    assert [reply.last for reply in replies] == [False] * (len(replies) - 1) + [True]
    return [event for reply in replies for event in reply.events]


async def test_one_pass_makes_one_message() -> None:
    sent: Sent = []
    indexer = make(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(indexer.run, lambda *batch: sent.append(batch))
        indexer.take(0, [ONE])
        indexer.take(0, [TWO])
        indexer.take(1, [ONE])
        await trio.testing.wait_all_tasks_blocked()
        assert sent == [(0, 1, [ONE, TWO]), (1, 1, [ONE])]
        indexer.take(0, [RemovedBlocks([2])])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sent[2:] == [(0, 3, [RemovedBlocks([2])])]
    assert indexer.blocks() == 2


def test_answers_ranges_of_what_is_remembered() -> None:
    indexer = make()
    indexer.take(0, [ONE, TWO, RemovedBlocks([2])])
    assert list(indexer.answer(0, 2)) == [KvReply(ReplyForm.EVENTS, 3, 2, [TWO, RemovedBlocks([2])])]
    assert list(indexer.answer(0, 4)) == [KvReply(ReplyForm.TOO_NEW, 3)]
    assert list(indexer.answer(0, 0)) == [KvReply(ReplyForm.INVALID_RANGE, 3)]
    assert list(indexer.answer(0, None)) == [KvReply(ReplyForm.TREE, 3, 0, [ONE])]
    with pytest.raises(NotFound):
        indexer.answer(1, None)


def test_before_the_first_event_there_is_an_empty_tree() -> None:
    for start in (None, 1):
        assert list(make().answer(0, start)) == [KvReply(ReplyForm.TREE, 0)]


@pytest.mark.parametrize("bounds", [{"kept_events": 1}, {"kept_blocks": 1}])
def test_older_than_the_record_gives_the_tree(bounds: dict[str, int]) -> None:
    indexer = make(**bounds)
    indexer.take(0, [ONE, TWO])
    assert [reply.form for reply in indexer.answer(0, 1)] == [ReplyForm.TREE]
    assert [reply.form for reply in indexer.answer(0, 2)] == [ReplyForm.EVENTS]


def test_long_answers_come_in_pieces() -> None:
    indexer = make()
    count = 3 * PIECE_BLOCKS
    indexer.take(0, [StoredBlocks([at], [at], at - 1 if at else None) for at in range(count)])
    for replies in (list(indexer.answer(0, None)), list(indexer.answer(0, 1))):
        assert len(replies) > 2
        assert sum(len(event.block_ids) for event in events_of(replies) if isinstance(event, StoredBlocks)) == count
    numbered = list(indexer.answer(0, 1))
    for one, following in pairwise(numbered):
        assert following.first_id == one.first_id + len(one.events)


def test_clearing_is_on_record_for_every_rank() -> None:
    indexer = make(2)
    indexer.take(1, [ONE])
    indexer.take(0, [ClearedBlocks(), TWO])
    assert flushed(indexer) == [(1, 1, [ONE]), (0, 1, [ClearedBlocks()]), (1, 2, [ClearedBlocks()]), (0, 2, [TWO])]
    assert events_of(list(indexer.answer(1, None))) == []


def test_nonsense_is_counted_and_not_passed_on() -> None:
    indexer = make()
    indexer.take(0, [StoredBlocks([1, 2], [3]), StoredBlocks([-1], [3]), RemovedBlocks([7])])
    indexer.take(4, [ONE])
    assert flushed(indexer) == [(0, 1, [RemovedBlocks([7])])]
    assert (indexer.dropped, indexer.unfounded) == (3, 1)
