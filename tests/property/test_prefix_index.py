"""The prefix index against a naive model: one dict per holder, over random operations with holes, moves and aliases."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.identity import WorkerId
from appliance.core.kv_events import Tier
from appliance.routing import runs
from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import BlockId, Holder, Outcome
from appliance.routing.prefix_index import PrefixIndex
from tests.helpers.prefix_indexes import BOTH, available, make_index

Prefix = tuple[int, ...]
HOLDERS = [Holder(WorkerId(f"w{number // 2}"), number % 2) for number in range(6)]


class NaiveIndex:
    """What each holder has, by the whole prefix that ends with the block."""

    def __init__(self) -> None:
        self.names: dict[Holder, dict[int, Prefix]] = {}
        self.held: dict[Holder, dict[Prefix, set[Tier]]] = {}

    def store(self, holder: Holder, ids: list[int], hashes: list[int], parent: int | None, tier: Tier) -> Outcome:
        names, held = self.names.setdefault(holder, {}), self.held.setdefault(holder, {})
        if parent is not None and parent not in names:
            return Outcome.PARENT_UNKNOWN
        prefix: Prefix = () if parent is None else names[parent]
        for block_id, local in zip(ids, hashes, strict=True):
            prefix = (*prefix, local)
            if names.get(block_id, prefix) != prefix:
                del held[names[block_id]]
            self.names[holder] = names = {name: where for name, where in names.items() if where != prefix}
            names[block_id] = prefix
            held.setdefault(prefix, set()).add(tier)
        return Outcome.APPLIED

    def remove(self, holder: Holder, ids: list[int], tier: Tier) -> Outcome:
        names, held = self.names.get(holder, {}), self.held.get(holder, {})
        outcome = Outcome.APPLIED
        for block_id in ids:
            prefix = names.get(block_id)
            if prefix is None or tier not in held[prefix]:
                outcome = Outcome.BLOCK_UNKNOWN
                continue
            held[prefix].discard(tier)
            if not held[prefix]:
                del held[prefix], names[block_id]
        return outcome

    def clear(self, worker: WorkerId, rank: int | None) -> None:
        for holder in HOLDERS:
            if holder.worker == worker and rank in (None, holder.rank):
                self.names.pop(holder, None)
                self.held.pop(holder, None)

    def find(self, hashes: list[int]) -> list[dict[Holder, int]]:
        results: list[dict[Holder, int]] = []
        for tier in Tier:
            scores: dict[Holder, int] = {}
            for holder, held in self.held.items():
                depth = results[-1].get(holder, 0) if results else 0
                while depth < len(hashes) and tier in held.get(tuple(hashes[: depth + 1]), ()):
                    depth += 1
                if depth:
                    scores[holder] = depth
            results.append(scores)
        return results

    def shared(self, hashes: list[int]) -> int:
        depth = 0
        while depth < len(hashes) and any(
            Tier.DISK in held.get(tuple(hashes[: depth + 1]), ()) for held in self.held.values()
        ):
            depth += 1
        return depth

    def counts(self) -> dict[Holder, tuple[int, ...]]:
        return {
            holder: tuple(sum(tier in tiers for tiers in held.values()) for tier in Tier)
            for holder, held in self.held.items()
            if held
        }


class Pair:
    """Both indexes, given the same operations."""

    def __init__(self, kind: str, random: Random, *, ids: str, tiers: bool, crowded: bool) -> None:
        self.random = random
        self.index, self.naive = make_index(kind), NaiveIndex()
        self.ids, self.tiers = ids, tiers
        if crowded:  # so that numbers of holders do not fit into one word
            for holder in [HOLDERS[0], *(Holder(WorkerId(f"idle{number}")) for number in range(125)), *HOLDERS[1:]]:
                self.index.store(holder, [], [])

    def step(self) -> None:
        """One random operation and one random question."""
        actions: list[tuple[int, Callable[[], None]]] = [(60, self.store), (38, self.remove), (2, self.clear)]
        self.random.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()
        self.ask(self.index)

    def store(self) -> None:
        holder, tier = self.random.choice(HOLDERS), self.tier()
        names = self.naive.names.get(holder, {})
        parent = self.random.choice(list(names)) if names and self.random.random() < 0.6 else None
        if self.random.random() < 0.03:
            parent = 999_999
        prefix = names.get(parent, ()) if parent is not None else ()
        hashes = self.hashes(self.random.randint(0, 6))
        ids = [self.block_id(holder, (*prefix, *hashes[: at + 1])) for at in range(len(hashes))]
        outcome = self.index.store(
            holder, _ids(ids), _locals(hashes), None if parent is None else BlockId(parent), tier
        )
        assert outcome is self.naive.store(holder, ids, hashes, parent, tier)

    def remove(self) -> None:
        holder, tier = self.random.choice(HOLDERS), self.tier()
        known = [*self.naive.names.get(holder, {}), 999_999]
        ids = self.random.choices(known, k=self.random.randint(1, 4))
        assert self.index.remove(holder, _ids(ids), tier) is self.naive.remove(holder, ids, tier)

    def clear(self) -> None:
        holder = self.random.choice(HOLDERS)
        rank = self.random.choice([None, holder.rank])
        self.index.clear(holder.worker, rank)
        self.naive.clear(holder.worker, rank)

    def ask(self, index: PrefixIndex) -> None:
        hashes = self.hashes(self.random.randint(0, 12))
        if self.random.random() < 0.7:
            known = [list(prefix) for held in self.naive.held.values() for prefix in held]
            hashes = (self.random.choice(known) if known else []) + hashes[:2]
        found = index.find_matches(_locals(hashes))
        assert [found.device, found.host_pinned, found.disk] == self.naive.find(hashes)
        assert index.shared_blocks(_locals(hashes)) == self.naive.shared(hashes)

    def check_all(self) -> None:
        """Compare the counts, every prefix, and copies of every kind made from a dump."""
        copies = [make_index(kind) for kind in available()]
        for holder, event in self.index.dump():
            for copy in copies:
                assert copy.apply(holder, event) is Outcome.APPLIED
        counts = self.naive.counts()
        for index in (self.index, *copies):
            assert {holder: row for holder, row in index.block_counts().items() if any(row)} == counts
            assert len(index) == sum(map(sum, counts.values()))
            for prefix in {prefix for held in self.naive.held.values() for prefix in held}:
                found = index.find_matches(_locals(list(prefix)))
                assert [found.device, found.host_pinned, found.disk] == self.naive.find(list(prefix))
                assert index.shared_blocks(_locals(list(prefix))) == self.naive.shared(list(prefix))

    def tear_down(self) -> None:
        """Remove every block, in random order; nothing may be left."""
        for holder in HOLDERS:
            for tier in Tier:
                names, held = self.naive.names.get(holder, {}), self.naive.held.get(holder, {})
                ids = [name for name, prefix in names.items() if tier in held[prefix]]
                self.random.shuffle(ids)
                assert self.index.remove(holder, _ids(ids), tier) is self.naive.remove(holder, ids, tier)
        assert len(self.index) == 0
        assert self.index.kept() == 0

    def tier(self) -> Tier:
        return self.random.choice(list(Tier)) if self.tiers else Tier.DEVICE

    def hashes(self, count: int) -> list[int]:
        return [self.random.choice((1, 1, 1, 1, 2, 2**64 - 1)) for _ in range(count)]

    def block_id(self, holder: Holder, prefix: Prefix) -> int:
        """Names that all agree on, that each holder makes for itself, or that mean anything."""
        if self.ids == "random":
            return self.random.randrange(40)
        own = self.ids == "own" or (self.ids == "mixed" and self.random.random() < 0.2)
        return hash((HOLDERS.index(holder) if own else -1, prefix)) % 2**64  # numbers only: the same in each process


def _ids(ids: list[int]) -> list[BlockId]:
    return [BlockId(block_id) for block_id in ids]


def _locals(hashes: list[int]) -> list[LocalHash]:
    return [LocalHash(local) for local in hashes]


def run_pair(kind: str, seed: int, steps: int, ids: str, *, tiers: bool) -> None:
    pair = Pair(kind, Random(seed), ids=ids, tiers=tiers, crowded=seed % 2 == 1)
    for step in range(steps):
        pair.step()
        if step % 97 == 96:
            pair.check_all()
    pair.check_all()
    pair.tear_down()


@pytest.fixture(params=[*BOTH, "python with short runs"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Short runs as well, so that small examples have many."""
    assert runs.MAX_BLOCKS == 128
    if request.param not in BOTH:
        monkeypatch.setattr("appliance.routing.run_index.MAX_BLOCKS", 3)
        return "python"
    return str(request.param)


@pytest.mark.parametrize("ids", ["uniform", "own", "mixed", "random"])
@pytest.mark.parametrize("tiers", [False, True])
def test_answers_as_the_naive_index_does(kind: str, ids: str, tiers: bool) -> None:
    run_pair(kind, 7, 150, ids, tiers=tiers)
    run_pair(kind, 8, 50, ids, tiers=tiers)


@pytest.mark.parametrize("kind", BOTH)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), ids=st.sampled_from(["uniform", "own", "mixed", "random"]), tiers=st.booleans())
def test_any_order_of_a_few_operations(kind: str, seed: int, ids: str, tiers: bool) -> None:
    run_pair(kind, seed, 30, ids, tiers=tiers)


@pytest.mark.slow
@pytest.mark.parametrize("ids", ["uniform", "own", "mixed", "random"])
def test_a_hundred_thousand_operations(kind: str, ids: str) -> None:
    for seed in range(25):
        run_pair(kind, seed, 500, ids, tiers=True)
