"""Guessed prefixes: time to live, and the limit of their number."""

from appliance.core.identity import WorkerId
from appliance.routing.approximate_index import ApproximateIndex
from appliance.routing.block_hash import LocalHash, local_hashes, sequence_hashes
from appliance.routing.index_events import Holder

A, B = Holder(WorkerId("a")), Holder(WorkerId("b"), 3)


def prompt(*starts: int) -> list[LocalHash]:
    return local_hashes([start * 16 + number for start in starts for number in range(16)], 16)


def record(index: ApproximateIndex, holder: Holder, local: list[LocalHash], now: float) -> None:
    index.record(holder, local, sequence_hashes(local), now)


def test_what_was_placed_is_found_until_it_was_not_used_for_too_long() -> None:
    index = ApproximateIndex(120.0)
    local = prompt(1, 2, 3, 4)
    record(index, A, local, 0.0)
    assert index.find_matches(local, 1.0).device == {A: 4}
    assert index.find_matches(prompt(1, 2, 9), 1.0).device == {A: 2}
    record(index, A, local[:2], 100.0)  # a touch begins the time anew, of these blocks only
    assert index.find_matches(local, 119.9).device == {A: 4}
    assert index.find_matches(local, 120.0).device == {A: 2}
    assert index.find_matches(local, 219.9).device == {A: 2}
    assert index.find_matches(local, 220.0).device == {}
    assert len(index) == 0


def test_slots_are_kept_apart() -> None:
    index = ApproximateIndex(120.0)
    record(index, A, prompt(1, 2), 0.0)
    record(index, B, prompt(1, 2, 3), 0.0)
    found = index.find_matches(prompt(1, 2, 3), 0.0)
    assert found.device == found.disk == {A: 2, B: 3}
    index.forget_worker(WorkerId("a"))
    assert index.find_matches(prompt(1, 2, 3), 0.0).device == {B: 3}
    record(index, A, prompt(1), 1.0)  # the old records of the same slot must not take it away
    assert index.find_matches(prompt(1), 119.0).device == {A: 1, B: 1}


def test_too_many_blocks_leave_oldest_first_and_deepest_first() -> None:
    index = ApproximateIndex(120.0, max_blocks=10)
    record(index, A, prompt(1, 2, 3, 4), 0.0)
    record(index, A, prompt(11, 12, 13, 14), 1.0)
    assert len(index) == 8
    record(index, A, prompt(21, 22, 23), 2.0)
    assert len(index) == 8  # four fifths
    assert index.find_matches(prompt(1, 2, 3, 4), 2.0).device == {A: 1}
    assert index.find_matches(prompt(11, 12, 13, 14), 2.0).device == {A: 4}


def test_no_time_to_live_keeps_nothing() -> None:
    index = ApproximateIndex(0.0)
    record(index, A, prompt(1), 0.0)
    assert len(index) == 0
