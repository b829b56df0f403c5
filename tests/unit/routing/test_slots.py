"""Limits of a slot: from which load on it is busy, and from which on requests wait."""

import sys
from typing import Any

import pytest

from appliance.core.identity import ModelName, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.pool import Pool, all_full
from appliance.routing.slots import BusyThresholds, Slot


def slot(**members: Any) -> Slot:
    card = ModelCard(name=ModelName("m"), context_length=100, engine="mocker", **members)
    return Slot(WorkerId("a"), 0, card, True)


@pytest.mark.parametrize(("share", "free", "busy"), [(0.33, 3, 4), (0.3, 3, 4), (1.0, 10, 11)])
def test_a_share_of_the_blocks_is_a_limit_that_may_be_reached(share: float, free: int, busy: int) -> None:
    one = slot(total_kv_blocks=10)
    one.limit(BusyThresholds(decode_blocks=share), None)
    pool = Pool(RouterSettings(mode="kv"))
    for blocks, over in ((free, False), (busy, True)):
        one.load.book(blocks, 0, unshared=blocks)
        pool.weigh(one)
        assert one.busy is over
        one.load.free(blocks)


@pytest.mark.parametrize(
    ("absolute", "times", "limit"), [(100, 2.5, 25), (7, 2.5, 7), (None, 2.5, 25), (100, None, 100)]
)
def test_the_lower_of_two_limits_of_prefill_holds(absolute: int | None, times: float | None, limit: int) -> None:
    one = slot(max_num_batched_tokens=10)
    one.limit(BusyThresholds(prefill_tokens=absolute, prefill_tokens_frac=times), 4.05)
    assert one.prefill_limit == limit
    one.load.book("r", 40)
    assert not all_full([one], 0.0)
    one.load.book("s", 1)
    assert all_full([one], 0.0)


def test_what_is_not_known_is_no_limit() -> None:
    one = slot()
    one.limit(BusyThresholds(prefill_tokens=None), 4.0)
    assert one.block_limit == one.prefill_limit == one.queue_limit == sys.maxsize
    huge = slot(total_kv_blocks=10, max_num_batched_tokens=10)
    huge.limit(BusyThresholds(decode_blocks=1e300, prefill_tokens=None, prefill_tokens_frac=float("inf")), 1e300)
    assert huge.block_limit == huge.prefill_limit == huge.queue_limit == sys.maxsize


def test_what_the_worker_says_is_judged_by_the_limits_of_now() -> None:
    one = slot(total_kv_blocks=10)
    one.report(8, 0)
    assert not one.says_busy
    one.limit(BusyThresholds(decode_blocks=0.5), None)
    assert one.says_busy
    one.limit(BusyThresholds(decode_blocks=0.9), None)
    assert not one.says_busy
