"""One pool in virtual time: modes, eligibility, prefixes, the queue's policies."""

from collections import Counter
from typing import Any

import pytest

from appliance.core.errors import ApplianceError, InvalidRequest, ModelNotReady, Overloaded
from appliance.core.generation import Pins, RouterOverrides
from appliance.core.identity import WorkerId, instance_number
from appliance.core.kv_events import ClearedBlocks, StoredBlocks, Tier
from appliance.routing.asking import Grant
from tests.helpers.pools import blocks, granted, pin, place, request, scheduler, waits

# Modes.


def test_round_robin_takes_each_in_turn() -> None:
    pool = scheduler("round-robin", {"a": {}, "b": {}, "c": {}})
    assert [place(pool, request())[0] for _ in range(6)] == ["a", "b", "c"] * 2


def test_power_of_two_takes_the_one_with_fewer_streams() -> None:
    pool = scheduler("power-of-two", {"a": {}, "b": {}})
    for _ in range(10):
        granted(pool, request())
    assert {slot.streams for slot in pool.pool.slots} == {5}
    assert place(scheduler("power-of-two", {"a": {}}), request()) == ("a", 0)


def test_power_of_two_can_draw_every_pair() -> None:
    pool = scheduler("power-of-two", {name: {} for name in "abcd"})
    assert set(Counter(place(pool, request())[0] for _ in range(100)).values()) <= {23, 24, 25, 26, 27}


def test_device_aware_weighs_the_groups() -> None:
    pool = scheduler(
        "device-aware-weighted", {"cpu": {"device": "cpu"}, "gpu": {"device": "cuda"}}, cuda_to_cpu_ratio=3.0
    )
    taken = [place(pool, request())[0] for _ in range(8)]
    assert Counter(taken) == {"gpu": 6, "cpu": 2}
    same = scheduler("device-aware-weighted", {"a": {}, "b": {"device": "cuda"}})
    assert Counter(place(same, request())[0] for _ in range(8)) == {"a": 4, "b": 4}


def test_direct_needs_a_pin() -> None:
    pool = scheduler("direct", {"a": {}, "b": {}})
    assert place(pool, request(pins=pin("b"))) == ("b", 0)
    with pytest.raises(InvalidRequest, match="direct"):
        pool.on_request(request(), 0.0)


# Who may.


def test_a_pin_on_worker_and_rank_is_kept() -> None:
    pool = scheduler("kv", {"a": {"ranks": 2, "rank": 4}, "b": {}})
    assert place(pool, request(pins=pin("a", 5))) == ("a", 5)
    assert place(pool, request(pins=Pins(dp_rank=4))) == ("a", 4)
    assert place(pool, request(pins=pin("b", 77))) == ("b", 0)  # no such rank: the router's choice
    with pytest.raises(InvalidRequest, match=str(instance_number(WorkerId("a")))):
        pool.on_request(request(pins=Pins(worker=1)), 0.0)


def test_only_allowed_workers_are_taken() -> None:
    pool = scheduler("round-robin", {"a": {}, "b": {}})
    allowed = (instance_number(WorkerId("b")), 5)
    assert {place(pool, request(allowed_workers=allowed))[0] for _ in range(3)} == {"b"}
    with pytest.raises(ModelNotReady, match="allows"):
        pool.on_request(request(allowed_workers=()), 0.0)


def test_required_taints_must_all_be_there() -> None:
    pool = scheduler("round-robin", {"a": {"taints": ("x", "y")}, "b": {"taints": ("x",)}})
    assert {place(pool, request(required_taints=("x", "y")))[0] for _ in range(3)} == {"a"}
    with pytest.raises(ModelNotReady, match="z"):
        pool.on_request(request(required_taints=("z",)), 0.0)


def test_preferred_taints_make_a_worker_cheaper() -> None:
    pool = scheduler("kv", {"a": {"taints": ("x",)}, "b": {}})
    assert place(pool, request(range(64), preferred_taints={"x": 1.0})) == ("a", 0)
    pool = scheduler("kv", {"a": {"taints": ("x",)}, "b": {}})
    assert place(pool, request(range(64), preferred_taints={"x": -1.0})) == ("b", 0)


def test_without_a_worker_there_is_a_clear_error() -> None:
    with pytest.raises(ModelNotReady, match="no ready worker"):
        scheduler("kv").on_request(request(), 0.0)


@pytest.mark.parametrize(
    "members",
    [
        {"active_decode_blocks_threshold": 0.3},
        {"active_prefill_tokens_threshold": 63},
        {"active_prefill_tokens_threshold_frac": 6.3},
    ],
)
def test_each_threshold_makes_a_worker_busy(members: dict[str, Any]) -> None:
    off: dict[str, Any] = {
        "active_decode_blocks_threshold": None,
        "active_prefill_tokens_threshold": None,
        "active_prefill_tokens_threshold_frac": None,
        "queue_threshold": None,
    }
    card = {"total_kv_blocks": 10, "max_num_batched_tokens": 10}
    pool = scheduler("kv", {"a": card, "b": card}, **(off | members))
    one, two = granted(pool, request(range(64), pins=pin("a"))), granted(pool, request(range(64)))
    assert two.slot.worker == "b"
    with pytest.raises(Overloaded, match="every worker"):
        pool.on_request(request(), 0.0)
    with pytest.raises(Overloaded, match="instance"):
        pool.on_request(request(pins=pin("a")), 0.0)
    pool.on_free(one, 1.0)
    assert place(pool, request()) == ("a", 0)
    pool.on_free(two, 1.0)
    never = scheduler("kv", {"a": card}, **off)
    for _ in range(5):
        granted(never, request(range(640)))


def test_what_a_worker_lacks_is_no_limit() -> None:
    pool = scheduler("kv", {"a": {}})
    for _ in range(50):
        granted(pool, request(range(6400)))


# Prefixes.


def test_cached_blocks_and_load_are_weighed() -> None:
    pool = scheduler("kv", {"a": {"kv_events": True}, "b": {"kv_events": True}})
    local = blocks(range(160))
    pool.apply_kv_events(WorkerId("a"), 0, [StoredBlocks(local, local)])
    first = granted(pool, request(range(160)))
    assert (first.slot.worker, first.overlap_blocks, first.cached_tokens, first.isl_blocks) == ("a", 10, 160, 10)
    assert first.slot.load.prefill_tokens == 0
    for number in range(3):  # other prompts go elsewhere until that costs more than it saves
        assert place(pool, request(range(1000 * number + 1000, 1000 * number + 1032))) == ("b", 0)
    pool.apply_kv_events(WorkerId("a"), 0, [ClearedBlocks()])
    assert granted(pool, request(range(160), query_only=True)).overlap_blocks == 0


def test_slower_tiers_count_by_their_weight() -> None:
    pool = scheduler("kv", {"a": {"kv_events": True}})
    local = blocks(range(48))
    for tier, at in ((Tier.DEVICE, 0), (Tier.HOST_PINNED, 1), (Tier.DISK, 2)):
        parent = local[at - 1] if at else None
        pool.apply_kv_events(WorkerId("a"), 0, [StoredBlocks([local[at]], [local[at]], parent, tier)])
    found = granted(pool, request(range(48)))
    assert (found.overlap_blocks, found.cached_tokens) == (1, 32)


def test_events_of_other_blocks_and_of_nobody_are_of_no_use() -> None:
    pool = scheduler("kv", {"a": {"kv_events": True}, "b": {"kv_events": True, "block_size": 32}})
    pool.apply_kv_events(WorkerId("b"), 0, [StoredBlocks([1], [2])])
    pool.apply_kv_events(WorkerId("c"), 0, [StoredBlocks([1], [2])])
    pool.apply_kv_events(WorkerId("a"), 0, [StoredBlocks([1, 2], [2])])  # makes no sense, and does no harm
    assert len(pool.prefixes.index) == 0


def test_without_credit_no_index_is_kept() -> None:
    pool = scheduler("kv", {"a": {"kv_events": True}, "b": {}}, overlap_score_credit=0.0)
    pool.apply_kv_events(WorkerId("a"), 0, [StoredBlocks([1], [2])])
    granted(pool, request(range(64)))
    assert len(pool.prefixes.index) == len(pool.prefixes.guessed) == 0


def test_a_request_may_weigh_differently() -> None:
    pool = scheduler("kv", {"a": {"kv_events": True}, "b": {"kv_events": True}})
    local = blocks(range(64))
    pool.apply_kv_events(WorkerId("a"), 0, [StoredBlocks(local, local)])
    granted(pool, request(range(5000, 5016), pins=pin("a")))
    assert place(pool, request(range(64), query_only=True)) == ("a", 0)
    overrides = RouterOverrides(overlap_score_credit=0.0)
    assert place(pool, request(range(64), query_only=True, overrides=overrides)) == ("b", 0)


# The queue.


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("fcfs", ["urgent", "long", "short"]),
        ("lcfs", ["urgent", "short", "long"]),
        ("wspt", ["urgent", "short", "long"]),
    ],
)
def test_the_order_of_a_policy(policy: str, order: list[str]) -> None:
    pool = scheduler("kv", {"a": {"max_num_batched_tokens": 10}}, queue_policy=policy, overlap_score_credit=0.0)
    running = granted(pool, request(range(41)))
    for at, (name, tokens, jump) in enumerate((("long", 80, 0.0), ("short", 50, 0.0), ("urgent", 60, 50.0))):
        waits(pool, request(range(tokens), name=name, priority_jump_s=jump), float(at))
    seen = []
    for _ in order:
        (settled,) = pool.on_prefill_complete(running, 9.0)
        seen.append(settled.request.id)
        assert isinstance(settled.outcome, Grant)
        running = settled.outcome
        assert running.waited_s > 0
    assert seen == order
    assert pool.queue.pending == pool.queue.pending_tokens == 0


def test_exactly_the_threshold_does_not_wait_and_asking_only_does() -> None:
    pool = scheduler("kv", {"a": {"max_num_batched_tokens": 10}}, overlap_score_credit=0.0)
    granted(pool, request(range(40)))
    granted(pool, request(range(1)))
    waits(pool, request(range(1), query_only=True))


def test_one_free_worker_is_enough_and_a_pin_waits_for_its_own() -> None:
    card = {"max_num_batched_tokens": 10}
    pool = scheduler("kv", {"a": card, "b": card}, overlap_score_credit=0.0)
    full = granted(pool, request(range(41), pins=pin("a")))
    pinned = waits(pool, request(range(5), pins=pin("a")))
    other = granted(pool, request(range(41)))
    assert other.slot.worker == "b"
    last = waits(pool, request(range(5)))
    assert [ask is last for ask in pool.on_free(other, 1.0)] == [True]  # the pinned one does not hold it up
    assert pinned.waiting
    assert [ask is pinned for ask in pool.on_free(full, 2.0)] == [True]


def test_what_waits_for_a_worker_that_goes_is_told() -> None:
    card = {"max_num_batched_tokens": 10}
    pool = scheduler("kv", {"a": card, "b": card}, overlap_score_credit=0.0)
    for name in "ab":
        granted(pool, request(range(41), pins=pin(name)))
    pinned, free = waits(pool, request(range(5), pins=pin("a"))), waits(pool, request(range(5)))
    assert pool.remove_worker(WorkerId("a"), 1.0) == []  # all that is left is full, so nobody looks
    settled = pool.remove_worker(WorkerId("b"), 1.0)
    assert {ask is pinned or ask is free for ask in settled} == {True}
    assert all(isinstance(ask.outcome, ApplianceError) for ask in settled)
