"""Booking, first token, end: prompt tokens and blocks of one rank."""

import pytest

from appliance.core.errors import NotFound
from appliance.routing.active_load import ActiveLoad


def hashes(count: int, start: int = 0) -> list[int]:
    return list(range(start, start + count))


def test_a_prompt_counts_until_its_first_token_and_its_blocks_until_its_end() -> None:
    load = ActiveLoad(16)
    load.book("r", 70, cached=16, hashes=hashes(4))
    assert (load.prefill_tokens, load.decode_blocks) == (54, 4)  # the tail of 6 tokens is no block
    load.complete_prefill("r")
    assert (load.prefill_tokens, load.decode_blocks) == (0, 4)
    load.free("r")
    assert (load.prefill_tokens, load.decode_blocks, len(load)) == (0, 0, 0)


def test_an_end_before_the_first_token_takes_the_prompt_too() -> None:
    load = ActiveLoad(16)
    load.book("r", 64, hashes=hashes(4))
    load.free("r")
    assert (load.prefill_tokens, load.decode_blocks) == (0, 0)


def test_more_cached_than_asked_is_no_negative_load() -> None:
    load = ActiveLoad(16)
    load.book("r", 10, cached=16)
    assert load.prefill_tokens == 0


def test_prefill_that_is_not_tracked_is_no_load() -> None:
    load = ActiveLoad(16)
    load.book("r", 64, track_prefill=False)
    assert load.prefill_tokens == 0


def test_a_shared_prefix_counts_once() -> None:
    load = ActiveLoad(16)
    load.book("a", 64, hashes=[1, 2, 3, 4])
    load.book("b", 96, hashes=[1, 2, 30, 40, 50, 60])
    assert load.decode_blocks == 8
    assert load.shared_blocks([1, 2, 3, 9]) == 3
    assert load.shared_blocks([7, 8]) == load.shared_blocks([]) == 0
    load.free("a")
    assert load.decode_blocks == 6
    assert load.shared_blocks([1, 2, 3, 4]) == 2


def test_prompts_count_right_whoever_of_those_that_begin_alike_ends_first() -> None:
    for ended, left in (("a", 3), ("b", 4)):
        load = ActiveLoad(16)
        load.book("a", 64, hashes=[1, 2, 3, 4])
        assert load.shared_blocks([1, 2, 9, 4]) == 2
        assert load.shared_blocks([1]) == 1
        load.book("b", 48, hashes=[1, 2, 30])
        load.book("a b", 32, hashes=[1, 2])
        assert load.decode_blocks == 5
        load.free("a b")
        load.free(ended)
        assert load.decode_blocks == load.shared_blocks([1, 2, 3, 4] if left == 4 else [1, 2, 30]) == left
        load.free("b" if ended == "a" else "a")
        assert load.decode_blocks == load.shared_blocks([1, 2]) == 0
        load.book("c", 32, hashes=[1, 5])
        assert load.decode_blocks == load.shared_blocks([1, 5, 6]) == 2


def test_without_reuse_the_same_prompt_counts_twice() -> None:
    load = ActiveLoad(16)
    load.book("a", 64, unshared=4)
    load.book("b", 64, unshared=4)
    assert load.decode_blocks == 8


def test_saying_things_twice_changes_nothing() -> None:
    load = ActiveLoad(16)
    assert load.book("a", 64, hashes=hashes(4))
    assert not load.book("a", 640, hashes=hashes(40))
    assert (load.prefill_tokens, load.decode_blocks) == (64, 4)
    load.complete_prefill("a")
    load.complete_prefill("a")
    assert load.prefill_tokens == 0
    load.free("a")
    load.free("a")
    load.free("never there")
    assert load.decode_blocks == 0
    with pytest.raises(NotFound, match="request never there not found"):
        load.complete_prefill("never there")


def test_output_adds_a_block_whenever_the_last_one_is_full() -> None:
    load = ActiveLoad(16)
    load.book("a", 60, hashes=hashes(3))
    counts = []
    for generated in range(1, 40):
        load.grow("a", generated)
        counts.append(load.blocks_now())
    assert counts == [-(-(60 + generated) // 16) for generated in range(1, 40)]
    load.grow("never there", 5)
    load.free("a")
    assert load.blocks_now() == 0


def test_blocks_of_a_request_alone_weigh_less_as_its_end_comes_near() -> None:
    load = ActiveLoad(16)
    load.book("a", 64, hashes=[1, 2, 3, 4], expected_output=64)
    load.grow("a", 32)  # six blocks, half of the output is there
    assert load.blocks_now() == 3
    load.book("b", 32, hashes=[1, 2])  # those two are not its own any more
    assert load.blocks_now() == 4
    load.free("b")
    load.grow("a", 80)  # beyond what was expected
    assert load.blocks_now() == 0
    load.free("a")
    assert load.blocks_now() == 0


def test_expected_prefill_falls_with_time_and_only_the_oldest() -> None:
    load = ActiveLoad(16)
    load.book("a", 100, expected_s=10.0, now=0.0)
    load.book("b", 50, expected_s=5.0, now=1.0)
    assert [load.prefill_at(now) for now in (0.0, 5.0, 9.99, 10.0, 60.0)] == [150, 100, 51, 50, 50]
    load.complete_prefill("a", now=12.0)  # only now does the next one begin
    assert [load.prefill_at(now) for now in (12.0, 13.0, 17.0)] == [50, 40, 0]
    load.free("b", now=14.0)
    assert load.prefill_at(14.0) == 0


def test_no_time_expected_is_nothing_left() -> None:
    load = ActiveLoad(16)
    load.book("a", 100, expected_s=0.0)
    assert load.prefill_at(0.0) == 0
