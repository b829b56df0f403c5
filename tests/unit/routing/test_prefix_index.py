"""The rules of the prefix index, one by one; `tests/property` compares it with a naive model."""

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import BlockId, Holder, Outcome
from appliance.routing.prefix_index import PrefixIndex
from tests.helpers.prefix_indexes import BOTH, make_index

A, B = Holder(WorkerId("a")), Holder(WorkerId("b"))
A1 = Holder(WorkerId("a"), 1)
PROMPT = [LocalHash(value) for value in (11, 12, 13, 14)]
IDS = [BlockId(value) for value in (101, 102, 103, 104)]


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def index(kind: str) -> PrefixIndex:
    return make_index(kind)


def device(index: PrefixIndex, *hashes: int) -> dict[Holder, int]:
    return index.find_matches([LocalHash(value) for value in hashes]).device


def test_counts_leading_blocks_and_leaves_out_who_has_none(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    index.store(B, IDS[:2], PROMPT[:2])
    index.store(A1, [BlockId(9)], [LocalHash(12)])
    assert device(index, 11, 12, 13, 99) == {A: 3, B: 2}
    assert device(index, *PROMPT, 15) == {A: 4, B: 2}
    assert device(index, 11) == {A: 1, B: 1}
    assert device(index, 13, 14) == {}
    assert device(index) == {}


def test_ranks_are_told_apart(index: PrefixIndex) -> None:
    index.store(A, IDS[:1], PROMPT[:1])
    index.store(A1, IDS, PROMPT)
    assert device(index, *PROMPT) == {A: 1, A1: 4}


def test_an_unknown_parent_drops_the_whole_event(index: PrefixIndex) -> None:
    index.store(A, IDS[:1], PROMPT[:1])
    assert index.store(A, IDS[2:], PROMPT[2:], IDS[1]) is Outcome.PARENT_UNKNOWN
    assert index.store(B, IDS[1:], PROMPT[1:], IDS[0]) is Outcome.PARENT_UNKNOWN  # only A has it
    assert device(index, *PROMPT) == {A: 1}
    assert index.block_counts() == {A: (1, 0, 0)}


def test_a_hole_ends_the_match_and_filling_it_restores_the_depth(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    assert index.remove(A, [IDS[1]]) is Outcome.APPLIED
    assert device(index, *PROMPT) == {A: 1}
    assert index.store(A, [IDS[1]], [PROMPT[1]], IDS[0]) is Outcome.APPLIED
    assert device(index, *PROMPT) == {A: 4}


def test_a_hole_of_one_worker_credits_nobody_with_its_tail(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    index.store(B, IDS[:2], PROMPT[:2])
    index.remove(A, [IDS[1]])
    assert device(index, *PROMPT) == {A: 1, B: 2}


def test_a_removed_block_is_no_parent(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    index.remove(A, [IDS[1]])
    assert index.store(A, [BlockId(7)], [LocalHash(7)], IDS[1]) is Outcome.PARENT_UNKNOWN


def test_storing_twice_changes_nothing(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    assert index.store(A, IDS, PROMPT) is Outcome.APPLIED
    assert len(index) == 4
    index.remove(A, IDS)
    assert device(index, *PROMPT) == {}


def test_removing_an_unknown_block_removes_the_others(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    assert index.remove(A, [BlockId(999), IDS[3]]) is Outcome.BLOCK_UNKNOWN
    assert index.remove(B, [IDS[0]]) is Outcome.BLOCK_UNKNOWN
    assert index.remove(A, [IDS[0]], Tier.DISK) is Outcome.BLOCK_UNKNOWN
    assert device(index, *PROMPT) == {A: 3}


def test_clearing_takes_all_ranks_and_tiers_of_one_worker(index: PrefixIndex) -> None:
    for holder in (A, A1, B):
        index.store(holder, IDS, PROMPT)
    index.store(A, IDS, PROMPT, tier=Tier.DISK)
    index.clear(A.worker)
    assert index.find_matches(PROMPT).disk == {B: 4}
    assert index.block_counts() == {B: (4, 0, 0)}
    assert index.store(A, IDS[2:], PROMPT[2:], IDS[1]) is Outcome.PARENT_UNKNOWN


def test_clearing_one_rank_keeps_the_others(index: PrefixIndex) -> None:
    for holder in (A, A1):
        index.store(holder, IDS, PROMPT)
    index.clear(A.worker, rank=1)
    assert device(index, *PROMPT) == {A: 4}


def test_each_tier_continues_the_one_before_it(index: PrefixIndex) -> None:
    index.store(A, IDS[:1], PROMPT[:1])
    index.store(A, IDS[1:2], PROMPT[1:2], IDS[0], Tier.HOST_PINNED)
    index.store(A, IDS[2:3], PROMPT[2:3], IDS[1], Tier.DISK)
    found = index.find_matches(PROMPT)
    assert (found.device, found.host_pinned, found.disk) == ({A: 1}, {A: 2}, {A: 3})


def test_the_device_does_not_continue_the_host(index: PrefixIndex) -> None:
    index.store(A, IDS[:1], PROMPT[:1], tier=Tier.HOST_PINNED)
    index.store(A, IDS[1:2], PROMPT[1:2], IDS[0])
    found = index.find_matches(PROMPT)
    assert (found.device, found.host_pinned, found.disk) == ({}, {A: 1}, {A: 1})


def test_a_block_in_two_tiers_leaves_them_one_by_one(index: PrefixIndex) -> None:
    index.store(A, IDS[:1], PROMPT[:1])
    index.store(A, IDS[:1], PROMPT[:1], tier=Tier.HOST_PINNED)
    assert index.block_counts() == {A: (1, 1, 0)}
    index.remove(A, IDS[:1])
    assert index.find_matches(PROMPT).device == {}
    assert index.find_matches(PROMPT).host_pinned == {A: 1}
    index.remove(A, IDS[:1], Tier.HOST_PINNED)
    assert len(index) == 0


def test_workers_may_call_the_same_block_differently(index: PrefixIndex) -> None:
    other = [BlockId(value) for value in (102, 101, 203, 204)]  # two of them are A's, for other blocks
    index.store(A, IDS, PROMPT)
    index.store(B, other, PROMPT)
    assert device(index, *PROMPT) == {A: 4, B: 4}
    assert index.remove(B, [BlockId(103)]) is Outcome.BLOCK_UNKNOWN
    assert index.remove(B, [BlockId(101)]) is Outcome.APPLIED
    assert device(index, *PROMPT) == {A: 4, B: 1}
    assert index.store(B, [BlockId(5)], [LocalHash(15)], BlockId(204)) is Outcome.APPLIED


def test_an_id_used_again_names_the_new_block_only(index: PrefixIndex) -> None:
    index.store(A, IDS, PROMPT)
    index.store(A, [IDS[3]], [LocalHash(21)])
    assert device(index, *PROMPT) == {A: 3}
    assert device(index, 21) == {A: 1}
    assert len(index) == 4


def test_long_prompts_that_part_late(index: PrefixIndex) -> None:
    prompt = [LocalHash(value * 7919) for value in range(1, 1001)]
    ids = [BlockId(value) for value in range(1, 1001)]
    index.store(A, ids, prompt)
    for at in range(0, 700, 50):
        index.store(B, ids[at : at + 50], prompt[at : at + 50], ids[at - 1] if at else None)
    index.store(B, [BlockId(5000)], [LocalHash(5)], ids[699])
    assert device(index, *prompt) == {A: 1000, B: 700}
    assert device(index, *prompt[:700], 5) == {A: 700, B: 701}
    index.remove(A, ids[::-1])
    index.remove(B, [*ids[:700], BlockId(5000)])
    assert len(index) == 0
    assert index.kept() == 0


def test_a_dump_makes_an_equal_index(index: PrefixIndex, kind: str) -> None:
    index.store(A, IDS, PROMPT)
    index.store(A, IDS[:2], PROMPT[:2], tier=Tier.HOST_PINNED)
    index.store(B, IDS[:3], PROMPT[:3])
    index.remove(B, [IDS[1]])
    copy = make_index(kind)
    assert {copy.apply(*held) for held in index.dump()} == {Outcome.APPLIED}
    assert copy.find_matches(PROMPT) == index.find_matches(PROMPT)
    assert copy.block_counts() == index.block_counts() == {A: (4, 2, 0), B: (2, 0, 0)}
    copy.store(B, [IDS[1]], [PROMPT[1]], IDS[0])
    assert device(copy, *PROMPT) == {A: 4, B: 3}


def test_applies_events(index: PrefixIndex) -> None:
    ids, prompt = list[int](IDS), list[int](PROMPT)
    events: list[tuple[Holder, KvEvent]] = [
        (A, StoredBlocks(ids, prompt)),
        (B, StoredBlocks(ids[:1], prompt[:1], tier=Tier.DISK)),
        (A, RemovedBlocks(ids[2:])),
        (B, ClearedBlocks()),
    ]
    assert {index.apply(holder, event) for holder, event in events} == {Outcome.APPLIED}
    assert index.find_matches(PROMPT).disk == {A: 2}


@pytest.mark.parametrize(("ids", "hashes"), [([1, 2], [1]), ([-1], [1]), ([2**64], [1]), ([1], [2**64]), (["1"], [1])])
def test_refuses_bad_events_and_stays_as_it_was(
    index: PrefixIndex, ids: list[BlockId], hashes: list[LocalHash]
) -> None:
    with pytest.raises(InvalidRequest, match="cannot store"):
        index.store(A, ids, hashes)
    assert index.block_counts() == {}


@pytest.mark.parametrize("count", [3000])
def test_many_blocks_are_all_found_again(index: PrefixIndex, count: int) -> None:
    """Ids that only count upwards or differ in their upper half do not confuse the table."""
    ids = [BlockId(value << shift) for shift in (0, 32) for value in range(1, count + 1)]
    for block_id in ids:
        index.store(A, [block_id], [LocalHash(block_id)])
    assert len(index) == 2 * count
    assert index.remove(A, ids) is Outcome.APPLIED
    assert index.remove(A, ids[:1]) is Outcome.BLOCK_UNKNOWN
    assert len(index) == 0
