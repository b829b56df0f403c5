"""A front end's cursor against loss, doubling and disorder of every message: in the end its index is the worker's."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply, RemovedBlocks, StoredBlocks
from appliance.events import rank_record
from appliance.events.local_indexer import LocalIndexer
from appliance.events.rank_cursor import Change, Phase, Question, RankCursor
from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.prefix_index import PrefixIndex, new_index

WORKER = WorkerId("w")
Batch = tuple[int, int, list[KvEvent]]
Prefix = tuple[LocalHash, ...]


class BlockPool:
    """An engine's cache as random events that are true: a block's id names its whole prefix."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.held: dict[int, Prefix] = {}

    def event(self) -> KvEvent:
        roll = self.random.random()
        if roll < 0.04:
            self.held.clear()
            return ClearedBlocks()
        if roll < 0.35 and self.held:
            gone = self.random.sample(sorted(self.held), self.random.randint(1, min(3, len(self.held))))
            for block_id in gone:
                del self.held[block_id]
            return RemovedBlocks(gone)
        parent = self.random.choice([None, *self.held])
        prefix: Prefix = () if parent is None else self.held[parent]
        hashes = [self.random.randint(1, 3) for _ in range(self.random.randint(1, 3))]
        ids = []
        for local in hashes:
            prefix = (*prefix, LocalHash(local))
            ids.append(hash(prefix) % 2**64)
            self.held[ids[-1]] = prefix
        return StoredBlocks(ids, hashes, parent)


class Follower:
    """A front end's cursors for two ranks, with an index, and a network that does what it likes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.index = new_index()
        self.cursors = [RankCursor(), RankCursor()]
        self.outcomes: set[Outcome] = set()
        self.sent: list[Batch] = []
        self.lost = self.random.choice([0.0, 0.1, 0.5])
        self.worker = LocalIndexer(range(2), kept_events=self.random.choice([2, 10, 1000]))
        self.answers: list[tuple[int, Question, list[KvReply]]] = []

    def send(self, rank: int, first_id: int, events: list[KvEvent]) -> None:
        if self.random.random() >= self.lost:
            self.sent += [(rank, first_id, events)] * self.random.choice([1, 1, 1, 2])

    def act(self) -> None:
        """Deliver something out of order, ask, or have a piece of an answer come in."""
        roll = self.random.random()
        if roll < 0.5 and self.sent:
            self.deliver(self.sent.pop(self.random.randrange(min(3, len(self.sent)))))
        elif roll < 0.6:
            rank = self.random.randrange(2)
            if self.cursors[rank].wants_answer:
                question = self.cursors[rank].ask()
                self.answers.append((rank, question, self.worker.answer(rank, question.start_id)))
        elif self.answers:
            number = self.random.randrange(len(self.answers))
            rank, question, pieces = self.answers[number]
            if not pieces or self.random.random() < 0.05:
                del self.answers[number]
            else:
                self.do(rank, self.cursors[rank].on_reply(question, pieces.pop(0)))

    def deliver(self, batch: Batch) -> None:
        rank, first_id, events = batch
        self.do(rank, self.cursors[rank].on_events(first_id, events))

    def do(self, rank: int, change: Change) -> None:
        if change.forget:
            self.index.clear(WORKER, rank)
        self.outcomes |= {self.index.apply(Holder(WORKER, rank), event) for event in change.events}

    def settle(self) -> None:
        """One more event of each rank comes through, and every question is answered."""
        self.lost, self.answers = 0.0, []
        for rank, cursor in enumerate(self.cursors):
            self.worker.take(rank, [StoredBlocks([9], [9])])
            self.worker.flush(self.send)
            while self.sent:
                self.deliver(self.sent.pop(0))
            for _ in range(5):
                if not cursor.wants_answer:
                    break
                question = cursor.ask()
                for reply in self.worker.answer(rank, question.start_id):
                    self.do(rank, cursor.on_reply(question, reply))
        assert [cursor.phase for cursor in self.cursors] == [Phase.LIVE, Phase.LIVE]


def run(seed: int, steps: int) -> None:
    random = Random(seed)
    follower, truth = Follower(random), new_index()
    pools = [BlockPool(random), BlockPool(random)]
    for _ in range(steps):
        if random.random() < 0.4:
            rank = random.randrange(2)
            events = [pools[rank].event() for _ in range(random.randint(1, 3))]
            if any(isinstance(event, ClearedBlocks) for event in events):
                events = [ClearedBlocks()]
                for pool in pools:
                    pool.held.clear()
            for event in events:
                assert truth.apply(Holder(WORKER, rank), event) is Outcome.APPLIED
            follower.worker.take(rank, events)
            if random.random() < 0.7:
                follower.worker.flush(follower.send)
        else:
            follower.act()
    follower.settle()
    for rank in range(2):
        truth.apply(Holder(WORKER, rank), StoredBlocks([9], [9]))
    check_equal(follower.index, truth, [pool.held.values() for pool in pools])
    assert follower.outcomes <= {Outcome.APPLIED}


def check_equal(index: PrefixIndex, truth: PrefixIndex, held: Iterable[Iterable[Prefix]]) -> None:
    counts = {holder: row for holder, row in truth.block_counts().items() if any(row)}
    assert {holder: row for holder, row in index.block_counts().items() if any(row)} == counts
    for prefix in {prefix for one in held for prefix in one}:
        assert index.find_matches(prefix) == truth.find_matches(prefix)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 150))
def test_any_order_loss_and_doubling_end_in_the_same_index(seed: int, steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_record, "PIECE_BLOCKS", 3)
        run(seed, steps)
