"""TensorRT-LLM's cache events: what an index is told, and what is left out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.kv_events import RemovedBlocks, StoredBlocks
from appliance.engines.trtllm.cache_events import CacheEvents, block_id
from appliance.routing.block_hash import local_hashes

SIZE = 4
FULL, NARROW = 4096, 128


def event(data: dict[str, Any], window: int = FULL, **more: Any) -> dict[str, Any]:
    return {"event_id": 1, "data": data, "window_size": window, **more}


def stored(*blocks: list[int], parent: int | None = None, first: int = 100, extra: int = 0) -> dict[str, Any]:
    told = [
        {
            "type": "stored_block",
            "block_hash": first + at,
            "tokens": [{"token_id": token, "token_extra_id": extra} for token in tokens],
        }
        for at, tokens in enumerate(blocks)
    ]
    return {"type": "stored", "parent_hash": parent, "blocks": told}


def test_whole_blocks_up_to_the_first_short_one() -> None:
    found = CacheEvents(SIZE).convert([event(stored([1, 2, 3, 4], [5, 6, 7, 8], [9], parent=-1))])
    assert found == [StoredBlocks([100, 101], [*local_hashes(range(1, 9), SIZE)], 2**64 - 1)]


def test_the_widest_window_and_the_first_rank_count() -> None:
    events = CacheEvents(SIZE)
    created = {"type": "created", "num_blocks_per_cache_level": [7, 0]}
    wide = {"type": "created", "num_blocks_per_cache_level": [2048, 10]}
    assert events.convert([event(created, NARROW), event(wide), event(created, NARROW)]) == []
    assert events.device_blocks == 2048
    removed = {"type": "removed", "block_hashes": [1, -2]}
    assert events.convert([event(removed, NARROW), event(removed, attention_dp_rank=1)]) == []
    found = events.convert([event(removed, attention_dp_rank=0)])
    assert found == [RemovedBlocks([1, 2**64 - 2])]


def test_blocks_that_move_or_hold_more_than_tokens_are_left_out() -> None:
    moved = {"type": "updated", "block_hash": 1, "cache_level": {"old_value": 0, "new_value": 1}, "priority": None}
    assert CacheEvents(SIZE).convert([event(moved), event(stored([1, 2, 3, 4], extra=9))]) == []


@pytest.mark.parametrize(("value", "known"), [(-1, 2**64 - 1), ("ff", 255), ("a" * 8 + "0" * 15 + "1", 1)])
def test_ids_of_blocks(value: int | str, known: int) -> None:
    assert block_id(value) == known


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PARTS = {
    "type": st.sampled_from(["created", "stored", "removed", "updated", "new"]),
    "blocks": JSON | st.lists(st.fixed_dictionaries({"block_hash": JSON, "tokens": JSON}), max_size=2),
    "block_hashes": JSON,
    "parent_hash": JSON,
    "num_blocks_per_cache_level": JSON,
}


@given(st.lists(JSON | st.fixed_dictionaries({"data": st.fixed_dictionaries(PARTS), "window_size": JSON}), max_size=4))
def test_whatever_comes_good_events_behind_it_are_read(odd: list[Any]) -> None:
    events = CacheEvents(SIZE)
    events.convert(odd)
    fresh = CacheEvents(SIZE).convert([*odd, event(stored([1, 2, 3, 4]), window=2**1000)])
    assert fresh[-1] == StoredBlocks([100], [*local_hashes([1, 2, 3, 4], SIZE)])
