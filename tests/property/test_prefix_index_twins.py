"""Both implementations of the prefix index side by side, with events that make sense and such that do not."""

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, RemovedBlocks, StoredBlocks, Tier
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import PrefixIndex
from tests.helpers.prefix_indexes import BOTH, make_index

HOLDERS = [Holder(WorkerId(f"w{number}"), rank) for number in range(3) for rank in range(2)]
ODD: list[Any] = [-1, 2**64, 2**200, "7", 7.0, None, True, [7], b"7"]
"""Values that a block hash cannot have; but for True, which Python takes for 1."""


def result_of(call: Callable[[], object]) -> object:
    """What a call returns, or the error that it raises."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error) if type(error) not in (TypeError, OverflowError) else ""


class Twins:
    """Both, given the same calls."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.indexes = [make_index(kind) for kind in BOTH]

    def both(self, call: Callable[[PrefixIndex], object]) -> None:
        results = [result_of(lambda index=index: call(index)) for index in self.indexes]  # type: ignore[misc]
        assert results[0] == results[1]

    def step(self, *, odd: float) -> None:
        """One random call, with odd values at a rate."""
        holder, tier = self.random.choice(HOLDERS), self.random.choice(list(Tier))
        ids, hashes = self.numbers(30, odd), self.numbers(3, odd)
        if self.random.random() >= odd:
            hashes = [self.random.randrange(3) for _ in ids]
        parent = self.random.choice([None, *self.numbers(30, odd)])
        calls: list[Callable[[PrefixIndex], object]] = [
            lambda index: index.store(holder, ids, hashes, parent, tier),
            lambda index: index.apply(holder, StoredBlocks(ids, hashes, parent, tier)),
            lambda index: index.remove(holder, ids, tier),
            lambda index: index.apply(holder, RemovedBlocks(ids, tier)),
        ]
        if self.random.random() < 0.03:
            rank = self.random.choice([None, 0])
            calls = [
                lambda index: index.clear(holder.worker, rank),
                lambda index: index.apply(holder, ClearedBlocks()),
            ]
        self.both(self.random.choice(calls))
        query: list[Any] = self.numbers(3, odd)
        self.both(lambda index: index.find_matches(query))
        self.both(lambda index: index.shared_blocks(query))

    def numbers(self, below: int, odd: float) -> list[Any]:
        found: list[Any] = [self.random.randrange(below) for _ in range(self.random.randrange(6))]
        if self.random.random() < odd:
            found.insert(self.random.randint(0, len(found)), self.random.choice(ODD))
        return found

    def compare(self) -> None:
        """Counts, and copies of each made by the other."""
        self.both(lambda index: index.block_counts())
        self.both(lambda index: len(index))
        self.both(lambda index: index.kept())
        copies = [make_index(kind) for kind in BOTH]
        for copy, index in zip(copies, reversed(self.indexes), strict=True):
            for holder, event in index.dump():
                copy.apply(holder, event)
        self.indexes = copies


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), odd=st.sampled_from([0.0, 0.1, 0.5]))
def test_they_answer_alike(seed: int, odd: float) -> None:
    twins = Twins(Random(seed))
    for _ in range(3):
        for _ in range(20):
            twins.step(odd=odd)
        twins.compare()


def test_they_answer_alike_for_long() -> None:
    twins = Twins(Random(3))
    for _ in range(200):
        for _ in range(100):
            twins.step(odd=0.05)
        twins.compare()
