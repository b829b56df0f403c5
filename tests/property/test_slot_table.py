"""The slot table against what it must never do, over any order of events."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llamacpp.slots import SlotTable

EVENTS = st.lists(st.tuples(st.sampled_from(["request", "release", "withdraw"]), st.integers(0, 9)), max_size=60)


@given(count=st.integers(1, 4), events=EVENTS)
def test_no_slot_is_held_twice_and_none_is_idle_while_someone_waits(count: int, events: list[tuple[str, int]]) -> None:
    table = SlotTable(count)
    holders: dict[int, int] = {}
    queue: list[int] = []
    for key, (event, pick) in enumerate(events):
        if event == "request":
            slot = table.request(key, [pick, key])
            if slot is None:
                queue.append(key)
            else:
                assert not queue
                assert slot not in holders
                holders[slot] = key
        elif event == "release" and holders:
            slot = sorted(holders)[pick % len(holders)]
            for grant in table.release(holders.pop(slot), slot, [pick]):
                assert grant.key == queue.pop(0)
                assert grant.slot not in holders
                holders[grant.slot] = grant.key
        elif event == "withdraw" and queue:
            table.withdraw(queue.pop(pick % len(queue)))
        assert (table.running, table.waiting) == (len(holders), len(queue))
        assert not queue or len(holders) == count
