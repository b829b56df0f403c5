"""The slot table: best free slot, first come first served, honest about content."""

import pytest

from appliance.core.errors import InternalError
from appliance.engines.llamacpp.slots import Grant, SlotTable, common_prefix


def run(table: SlotTable, key: int, prompt: list[int]) -> int:
    slot = table.request(key, prompt)
    assert slot is not None
    table.release(key, slot, prompt)
    return slot


def test_a_prompt_goes_where_most_of_it_lies() -> None:
    table = SlotTable(3)
    table.request(1, [1])
    table.request(2, [2])
    table.request(3, [3])
    for key, slot, content in ((1, 0, [1, 2, 3]), (2, 1, [1, 2, 9]), (3, 2, [7])):
        table.release(key, slot, content)
    assert table.request(4, [1, 2, 9, 9]) == 1
    assert table.request(5, [1, 2, 9, 9]) == 0


def test_without_a_match_the_oldest_content_goes_first() -> None:
    table = SlotTable(2)
    first = run(table, 1, [1])
    second = run(table, 2, [2])
    assert first != second
    assert run(table, 3, [3]) == first


def test_who_waits_longest_gets_the_next_slot() -> None:
    table = SlotTable(1)
    assert table.request(1, [1]) == 0
    assert table.request(2, [2]) is None
    assert table.request(3, [3]) is None
    assert table.release(1, 0, [1]) == [Grant(2, 0)]
    table.withdraw(3)
    assert table.release(2, 0, [2]) == []
    assert (table.running, table.waiting) == (0, 0)


def test_an_engine_that_used_another_slot_makes_both_unknown() -> None:
    table = SlotTable(2)
    run(table, 1, [1, 2])
    slot = table.request(2, [1, 2])
    assert slot is not None
    table.release(2, slot, [1, 2], ran_on=1 - slot)
    assert [list(table.content(index)) for index in (0, 1)] == [[], []]


def test_only_the_holder_releases() -> None:
    table = SlotTable(1)
    table.request(1, [1])
    with pytest.raises(InternalError):
        table.release(2, 0, [])


@pytest.mark.parametrize(
    ("one", "other", "shared"), [([], [], 0), ([1], [], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2)]
)
def test_common_prefix(one: list[int], other: list[int], shared: int) -> None:
    assert common_prefix(one, other) == common_prefix(other, one) == shared
